"""No line of ours runs what stands in a file: no pickle, no code of a model, no class by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for name in ("accounting", "adapters", "dpft", "recipes")
    for path in (ROOT / name).rglob("*.py")
    if not path.is_symlink() and "dpft/accounting" not in path.as_posix()
)
RUNNING = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "tarfile", "zipfile"}
LOADERS = {"AutoConfig", "AutoTokenizer", "auto"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield the dotted name of what is called, and the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> object:
    found = [each.value for each in call.keywords if each.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    """Every module of the package by its place."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in SOURCES
    }


def test_nothing_that_runs_code_when_it_reads_is_imported(trees: dict[str, ast.AST]) -> None:
    for place, tree in trees.items():
        for node in ast.walk(tree):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not RUNNING & {name.partition(".")[0] for name in names}, place


def test_no_text_is_evaluated_and_no_object_made_by_its_name(trees: dict[str, ast.AST]) -> None:
    for place, tree in trees.items():
        for name, call in calls(tree):
            assert name not in {"eval", "exec", "compile", "__import__"}, place
            assert not name.endswith(("instantiate", "yaml.unsafe_load", "yaml.full_load")), place
            assert name != "yaml.load" or place == "dpft/plain_yaml.py", place
            assert name != "torch.load" or keyword(call, "weights_only") is True, place


def test_no_code_of_a_model_is_trusted(trees: dict[str, ast.AST]) -> None:
    seen = 0
    for place, tree in trees.items():
        for name, call in calls(tree):
            assert keyword(call, "trust_remote_code") is not True, place
            owner, _, method = name.rpartition(".")
            if method == "from_pretrained" and owner in LOADERS and not spread(call):
                assert keyword(call, "trust_remote_code") is False, f"{place}:{call.lineno}"
                seen += 1
    assert seen >= 3


def spread(call: ast.Call) -> bool:
    """Return whether options arrive by name from a mapping; the one place is looked at below."""
    return any(each.arg is None for each in call.keywords)


def test_base_models_are_read_from_safetensors_alone() -> None:
    text = (ROOT / "recipes" / "models.py").read_text(encoding="utf-8")
    assert '{"trust_remote_code": False, "use_safetensors": True}' in text
