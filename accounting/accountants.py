"""Epsilon of mechanisms on the same data, by a named accountant.

An accountant that fails, or returns something that is no bound, raises: a wrong number is never
printed. The bounds themselves live in one file each, see `dpft.accounting.registry`.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

from dpft.accounting.errors import AccountantError, ConfigurationError, DpftError
from dpft.accounting.grid import DEFAULT_GRID, Grid
from dpft.accounting.mechanisms import (
    KNOWN_MECHANISMS,
    Composed,
    FixedBatchGaussian,
    Mechanism,
    Opaque,
    steps_of,
    unit_of,
)
from dpft.accounting.mechanisms.portions import with_steps
from dpft.accounting.registry import EpsilonBound, bound_named
from dpft.accounting.rules import count_problems, delta_problems, require, scientific

__all__ = [
    "Accountant",
    "composition",
    "epsilon",
]


class Accountant(str, Enum):
    """Which bound turns mechanisms into epsilon.

    `pld` (default): privacy loss distributions, tight. `rdp`: Renyi, fast and looser, and the only
    one for repeat-and-select. `prv`: the upper bound of opacus' numerical accountant, an
    independent cross-check for Gaussian noise; it imports torch.
    """

    PLD = "pld"
    RDP = "rdp"
    PRV = "prv"


def epsilon(
    mechanism: Mechanism | Sequence[Mechanism],
    delta: float,
    *,
    accountant: str = Accountant.PLD,
    num_records: int | None = None,
    grid: Grid = DEFAULT_GRID,
) -> float:
    """Return the epsilon that mechanisms on the same data spend together.

    Args:
        mechanism: One mechanism, or several that all touch the same data, in any order.
        delta: In (0, 1).
        accountant: A member of `Accountant` or its value.
        num_records: Public number of records; if given, delta must lie below its inverse.
        grid: How finely to discretise.

    Returns:
        An upper bound, finite and >= 0.

    Raises:
        ConfigurationError: If delta is out of range, the accountant unknown or unable to treat a
            mechanism or its adjacency, or the mechanisms do not share one adjacency and one unit.
        AccountantError: If the computation fails or its result is no bound.

    Privacy:
        Nothing, no data touched. All mechanisms are taken to be fixed beforehand: a plan that
        follows earlier outputs needs a filter instead. Never negative, growing with steps and
        sample rate, falling with noise and delta (`tests/accounting/test_accountants.py`,
        `tests/accounting/test_pld.py`).

    References:
        Doroshenko et al. 2022 (2207.04380) for the default accountant.

    Example:
        >>> from dpft.accounting import PoissonGaussian
        >>> round(epsilon(PoissonGaussian(0.6, 1024 / 67_349, 660), 1e-5), 3)
        9.067
    """
    require(
        [] if num_records is None else count_problems("num_records", num_records),
        delta_problems(delta, num_records),
    )
    mechanisms = composition(mechanism)
    _refuse_spent_delta(mechanisms, delta)
    return _checked(bound_named(accountant), mechanisms, delta, grid)


def composition(mechanism: Mechanism | Sequence[Mechanism]) -> tuple[Mechanism, ...]:
    """Return what is composed, in one order, with equal mechanisms added up.

    Args:
        mechanism: One mechanism, or several that all touch the same data, in any order.

    Returns:
        Mechanisms of which no two differ in steps alone; a schedule becomes as short as it has
        different values.

    Raises:
        ConfigurationError: If there is none, one is not known, or they do not share one adjacency
            and one unit.

    Privacy:
        Nothing, no data touched
        (`test_parts_of_a_run_cost_together_what_the_whole_costs`).
    """
    given = (mechanism,) if isinstance(mechanism, KNOWN_MECHANISMS) else mechanism
    parts = [part for value in _listed(given) for part in _flattened(value)]
    if not parts or not all(isinstance(part, KNOWN_MECHANISMS) for part in parts):
        raise ConfigurationError(
            f"Expected mechanism={mechanism!r} to be one or more mechanisms, such as "
            "PoissonGaussian. What is not known cannot be bounded. Describe every access to the "
            "data by a mechanism."
        )
    _refuse_differing("adjacency", {part.adjacency.value for part in parts})
    _refuse_differing("unit", {unit_of(part).value for part in parts})
    counted: Counter[Mechanism] = Counter()
    for part in parts:
        once, count = _once(part)
        counted[once] += count
    together = [value for once, count in counted.items() for value in _repeated(once, count)]
    return tuple(sorted(together, key=repr))


def _listed(given: object) -> Sequence[Mechanism]:
    return given if isinstance(given, list | tuple) else ()


def _flattened(mechanism: Mechanism) -> list[Mechanism]:
    if isinstance(mechanism, Composed):
        return [part for inner in mechanism.parts for part in _flattened(inner)]
    return [mechanism]


def _refuse_differing(field: str, values: set[str]) -> None:
    if len(values) > 1:
        raise ConfigurationError(
            f"Expected {field}={' and '.join(sorted(values))} to be the same for all mechanisms. A "
            f"guarantee holds for one {field}. State one for all of them."
        )


def _once(mechanism: Mechanism) -> tuple[Mechanism, int]:
    """Return one step of a mechanism, and how many there are."""
    if isinstance(mechanism, FixedBatchGaussian):  # what counts is how often a record takes part
        count = mechanism.participations
        return with_steps(mechanism, 1), count
    if hasattr(mechanism, "steps"):
        return with_steps(mechanism, 1), steps_of(mechanism)
    return mechanism, 1


def _repeated(once: Mechanism, count: int) -> list[Mechanism]:
    if isinstance(once, FixedBatchGaussian):
        return [dataclasses.replace(once, steps=count, participations=count)]
    if hasattr(once, "steps"):
        return [with_steps(once, count)]
    return [once] * count


def _refuse_spent_delta(mechanisms: Sequence[Mechanism], delta: float) -> None:
    """A release may fail with its whole delta: no epsilon holds at a smaller one."""
    kept = math.prod(1 - value.delta for value in mechanisms if isinstance(value, Opaque))
    if delta <= 1 - kept:
        raise ConfigurationError(
            f"Expected delta={delta!r} to exceed what opaque releases have spent of it, "
            f"{scientific(1 - kept)}. No epsilon holds at a smaller delta. Raise delta."
        )


@lru_cache(maxsize=256)  # a calibrated plan asks again for what the search has just confirmed
def _checked(
    bound: EpsilonBound, mechanisms: tuple[Mechanism, ...], delta: float, grid: Grid
) -> float:
    try:
        value = float(bound(mechanisms, delta, grid))
    except DpftError:
        raise
    except Exception as error:
        raise AccountantError(_failure(mechanisms, delta, repr(error))) from error
    if not math.isfinite(value) or value < 0:  # no mechanism here truly has an infinite epsilon
        raise AccountantError(_failure(mechanisms, delta, f"epsilon={value}"))
    return value


def _failure(mechanisms: tuple[Mechanism, ...], delta: float, outcome: str) -> str:
    return (
        f"Expected a finite epsilon >= 0 at delta={delta!r} for {mechanisms!r}, got {outcome}. The "
        "accountant failed numerically, and a number it cannot vouch for is not shown. Choose "
        "another accountant, a larger delta or more noise."
    )
