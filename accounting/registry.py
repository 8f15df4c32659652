"""Accountants by name. One that needs a heavy library is imported when it is first asked for.

The modules on demand are named by strings, so that this folder depends on no other of ours: the
bridge to opacus (which imports torch) stays outside, and is reached only by `--accountant prv`.
"""

import importlib
from collections.abc import Callable
from typing import Protocol

from dpft.accounting.errors import AccountantError, ConfigurationError
from dpft.accounting.grid import Grid
from dpft.accounting.mechanisms import Mechanism
from dpft.accounting.rules import name_problems, require

__all__ = [
    "EpsilonBound",
    "accountant_names",
    "bound_named",
    "register",
]


class EpsilonBound(Protocol):
    """An upper bound on epsilon for several mechanisms on the same data."""

    def __call__(self, mechanisms: tuple[Mechanism, ...], delta: float, grid: Grid) -> float:
        """Bound epsilon.

        Args:
            mechanisms: At least one; all share one adjacency, and no two differ in steps alone.
            delta: In (0, 1).
            grid: How finely to discretise.

        Returns:
            An upper bound on epsilon at delta, >= 0.

        Privacy:
            Nothing, no data touched.
        """

    def __hash__(self) -> int:
        """Functions have one; results are remembered per accountant."""


_ON_DEMAND = {
    "pld": "dpft.accounting.pld",
    "prv": "dpft.bridges.opacus",
    "rdp": "dpft.accounting.rdp",
}
_REGISTERED: dict[str, EpsilonBound] = {}


def register(name: str) -> Callable[[EpsilonBound], EpsilonBound]:
    """Register an accountant.

    Args:
        name: How users ask for it.

    Returns:
        A decorator that leaves the function as it is.

    Raises:
        ConfigurationError: If the name is taken; two bounds under one name would make the printed
            epsilon depend on the order of imports.

    Privacy:
        Nothing, no data touched. The tests in `tests/accounting/test_accountants.py` that run over
        all accountants are what a new one has to pass.
    """

    def keep(bound: EpsilonBound) -> EpsilonBound:
        if name in _REGISTERED:
            raise ConfigurationError(
                f"Expected accountant={name} to be registered once. A second one would silently "
                "change what epsilon means. Register it under another name."
            )
        _REGISTERED[name] = bound
        return bound

    return keep


def accountant_names() -> tuple[str, ...]:
    """Return the names that can be asked for, sorted.

    Returns:
        Registered names and those imported on demand.

    Privacy:
        Nothing, no data touched.
    """
    return tuple(sorted({*_REGISTERED, *_ON_DEMAND}))


def bound_named(name: str) -> EpsilonBound:
    """Return the accountant of a name, importing it if need be.

    Args:
        name: A member of `Accountant`, its value, or a name given to `register`.

    Returns:
        The function that bounds epsilon.

    Raises:
        ConfigurationError: If the name is unknown, or its library is not installed.
        AccountantError: If the module that should provide the accountant does not.

    Privacy:
        Nothing, no data touched.
    """
    require(name_problems("accountant", name, accountant_names()))
    if name not in _REGISTERED:
        _import_on_demand(name)
    if name not in _REGISTERED:
        raise AccountantError(
            f"Expected {_ON_DEMAND[name]} to register accountant={name}. Without it there is no "
            "bound. Choose another accountant, such as pld."
        )
    return _REGISTERED[name]


def _import_on_demand(name: str) -> None:
    try:
        importlib.import_module(_ON_DEMAND[name])
    except ImportError as error:
        raise ConfigurationError(
            f"Expected accountant={name} to be importable from {_ON_DEMAND[name]} ({error}). "
            "Install what is missing, or choose another accountant, such as pld."
        ) from error
