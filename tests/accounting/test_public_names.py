"""The public names are exactly those listed, in order."""

import importlib
import pkgutil

import pytest

import dpft.accounting

MODULES = [
    "dpft.accounting",
    *(f"dpft.accounting.{info.name}" for info in pkgutil.iter_modules(dpft.accounting.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_listed_once_and_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)
