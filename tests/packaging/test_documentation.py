"""What documents and docstrings name exists: tests, files, other documents."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("accounting", "adapters", "dpft", "recipes")
_DOCUMENTS = sorted([*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")])
_TEST = re.compile(r"`(test_\w+)(?:\[[^`]*\])?`")
_PLACE = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def functions() -> set[str]:
    """Every test function and test module of the tree."""
    found = set()
    for path in (_ROOT / "tests").rglob("test_*.py"):
        found |= {path.stem, *re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))}
    return found


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document: Path, functions: set[str]) -> None:
    text = document.read_text(encoding="utf-8")
    assert set(_TEST.findall(text)) <= functions
    for place, function in _PLACE.findall(text):
        assert (_ROOT / place).is_file(), place
        assert not function or function in functions


@pytest.mark.parametrize("package", _PACKAGES)
def test_every_test_that_a_docstring_names_exists(package: str, functions: set[str]) -> None:
    missing = {}
    for path in (_ROOT / package).rglob("*.py"):
        named = set(re.findall(r"\btest_\w+", path.read_text(encoding="utf-8")))
        if not named <= functions:
            missing[str(path.relative_to(_ROOT))] = sorted(named - functions)
    assert not missing


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_links_to_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [link for link in _LINK.findall(text) if not (document.parent / link).exists()]
    assert not missing


def test_no_placeholder_is_left() -> None:
    for document in _DOCUMENTS:
        assert not re.search(r"`(?:TRAP\d+|TEST\d+|TODO)`", document.read_text(encoding="utf-8"))
