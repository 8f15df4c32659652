"""Public names are exactly ``__all__``, in the order that ruff writes (RUF022)."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("dpft", "accounting", "adapters", "recipes")


def public_modules() -> Iterator[tuple[str, Path]]:
    """Import name and file of every module whose path has no private part."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            if parts[0] == "dpft" and parts[1] in FOLDERS:
                continue
            parts = parts if folder == "dpft" else ["dpft", *parts]
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") for part in parts):
                yield ".".join(parts), path


MODULES = dict(public_modules())
PLAIN_MODULES = [name for name, path in MODULES.items() if path.name != "__init__.py"]


def declared_names(tree: ast.Module) -> list[str] | None:
    """The literal value of ``__all__``, or None where the module states none."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    return None


def bound_names(node: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement defines; an import defines nothing."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.If(body=body, orelse=orelse):
            for child in body + orelse:
                yield from bound_names(child)


def passed_on(tree: ast.Module) -> set[str]:
    """Names imported from our own modules, which a module may publish again by naming them."""
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dpft"
        for alias in node.names
    }


def isort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order of RUF022."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[:1].isupper() else 2), name


def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES)
def test_module_states_its_public_names_sorted(module: str) -> None:
    names = declared_names(parsed(module))
    assert names is not None, f"{module} has no __all__"
    assert names == sorted(set(names), key=isort_key)


@pytest.mark.parametrize("module", PLAIN_MODULES)
def test_module_publishes_exactly_what_it_defines_or_passes_on(module: str) -> None:
    tree = parsed(module)
    published = set(declared_names(tree) or [])
    defined = {name for node in tree.body for name in bound_names(node)}
    public = {name for name in defined if not name.startswith("_")}
    assert public <= published, "a public name is missing; give it an underscore or publish it"
    assert published <= public | passed_on(tree), "a published name is not defined here"


@pytest.mark.parametrize("module", MODULES)
def test_public_name_can_be_had(module: str) -> None:
    loaded = importlib.import_module(module)
    missing = [n for n in declared_names(parsed(module)) or [] if not hasattr(loaded, n)]
    assert not missing
