"""The pages of the API show every public name of the modules that users import."""

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_API = _ROOT / "docs" / "api"
_MODULES = {
    "dpft": ("dpft", "dpft/__init__.py"),
    "dpft.accounting": ("accounting", "accounting/__init__.py"),
    "dpft.adapters": ("adapters", "adapters/__init__.py"),
    "dpft.errors": ("errors", "dpft/errors.py"),
    "dpft.losses": ("losses", "dpft/losses.py"),
    "dpft.taskvectors": ("taskvectors", "dpft/taskvectors/__init__.py"),
    **{
        f"dpft.bridges.{path.stem}": ("bridges", f"dpft/bridges/{path.name}")
        for path in sorted((_ROOT / "dpft" / "bridges").glob("[a-z]*.py"))
        if "_" not in path.stem  # parts of a bridge carry its name and one of their own
    },
}


def _public(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    (names,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    ]
    return set(ast.literal_eval(names))


@pytest.mark.parametrize("module", _MODULES)
def test_every_public_name_stands_on_its_page_once(module: str) -> None:
    page, file = _MODULES[module]
    text = (_API / f"{page}.md").read_text(encoding="utf-8")
    pattern = rf"^\.\. auto\w+:: {re.escape(module)}\.(\w+)$"
    shown = re.findall(pattern, text, re.MULTILINE)
    assert set(shown) == _public(_ROOT / file)
    assert len(shown) == len(set(shown))
