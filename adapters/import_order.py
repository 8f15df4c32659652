"""Sees to it that peft is imported before any of our modules that build on it.

peft's import makes us import our methods (`dpft.adapters.registration`). Were it one of them that
imports peft, and so is not yet complete, the others would find it half made. Imports no peft of
its own accord.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

__all__ = ["import_peft_first"]


def import_peft_first(package: str, light: Sequence[str]) -> None:
    """Import peft as soon as a module of a package is imported, right before that module.

    Args:
        package: Name of the package.
        light: Modules of it that do without peft.

    Privacy:
        Nothing, no data touched.
    """
    if "peft" not in sys.modules:
        sys.meta_path.insert(0, _PeftFirst(package, light))


class _PeftFirst(MetaPathFinder):
    """Finds nothing by itself, but what the import of peft has brought along."""

    def __init__(self, package: str, light: Sequence[str]) -> None:
        self._package = package
        self._light = frozenset(f"{package}.{name}" for name in light)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - as the interface has it
        target: ModuleType | None = None,  # noqa: ARG002 - as the interface has it
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self._package}.") or fullname in self._light:
            return None
        sys.meta_path.remove(self)
        import_module("peft")
        made = sys.modules.get(fullname)
        if made is None:
            return None
        spec = spec_from_loader(fullname, _AsItIs(made))
        made.__spec__ = spec  # importlib takes the module's own spec for the answer
        return spec


class _AsItIs(Loader):
    """Hands out a module that has been imported in the meantime."""

    def __init__(self, made: ModuleType) -> None:
        self._made = made
        self._spec = made.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002 - as the interface has it
        return self._made

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
