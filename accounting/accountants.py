"""Epsilon of mechanisms on the same data, by a named accountant.

An accountant that fails, or returns something that is no bound, raises: a wrong number is never
printed. The bounds themselves live in one file each, see `dpft.accounting.registry`.
"""

import math
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

from dpft.accounting.errors import AccountantError, ConfigurationError, DpftError
from dpft.accounting.grid import DEFAULT_GRID, Grid
from dpft.accounting.mechanisms import PoissonGaussian
from dpft.accounting.registry import EpsilonBound, bound_named
from dpft.accounting.rules import count_problems, delta_problems, require

__all__ = [
    "Accountant",
    "epsilon",
]


class Accountant(str, Enum):
    """Which bound turns mechanisms into epsilon.

    `pld` (default): privacy loss distributions, tight. `rdp`: Renyi, fast and looser. `prv`: the
    upper bound of opacus' numerical accountant, an independent cross-check; it imports torch.
    """

    PLD = "pld"
    RDP = "rdp"
    PRV = "prv"


def epsilon(
    mechanism: PoissonGaussian | Sequence[PoissonGaussian],
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
        ConfigurationError: If delta is out of range, the accountant unknown or unable to treat the
            adjacency, or the mechanisms do not share one adjacency.
        AccountantError: If the computation fails or its result is no bound.

    Privacy:
        Nothing, no data touched. All mechanisms are taken to be fixed beforehand: a plan that
        follows earlier outputs needs a filter instead. Never negative, growing with steps and
        sample rate, falling with noise and delta (`tests/accounting/test_accountants.py`).

    References:
        Doroshenko et al. 2022 (2207.04380) for the default accountant.

    Example:
        >>> round(epsilon(PoissonGaussian(0.6, 1024 / 67_349, 660), 1e-5), 3)
        9.067
    """
    require(
        [] if num_records is None else count_problems("num_records", num_records),
        delta_problems(delta, num_records),
    )
    mechanisms = _composition(mechanism)
    return _checked(bound_named(accountant), mechanisms, delta, grid)


def _composition(
    mechanism: PoissonGaussian | Sequence[PoissonGaussian],
) -> tuple[PoissonGaussian, ...]:
    """Return what is composed in one order, with the steps of equal mechanisms added up."""
    given = (mechanism,) if isinstance(mechanism, PoissonGaussian) else tuple(mechanism)
    if not given or not all(isinstance(value, PoissonGaussian) for value in given):
        raise ConfigurationError(
            f"Expected mechanism={given!r} to be one or more PoissonGaussian. What is not known "
            "cannot be bounded. Describe every access to the data by a mechanism."
        )
    adjacencies = sorted({value.adjacency.value for value in given})
    if len(adjacencies) > 1:
        raise ConfigurationError(
            f"Expected adjacency={' and '.join(adjacencies)} to be the same for all mechanisms. A "
            "guarantee holds for one neighbouring relation. State one for all of them."
        )
    steps: dict[tuple[float, float], int] = {}
    for value in given:
        key = (value.noise_multiplier, value.sample_rate)
        steps[key] = steps.get(key, 0) + value.steps
    adjacency = given[0].adjacency
    return tuple(PoissonGaussian(*key, count, adjacency) for key, count in sorted(steps.items()))


@lru_cache(maxsize=256)  # a calibrated plan asks again for what the search has just confirmed
def _checked(
    bound: EpsilonBound, mechanisms: tuple[PoissonGaussian, ...], delta: float, grid: Grid
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


def _failure(mechanisms: tuple[PoissonGaussian, ...], delta: float, outcome: str) -> str:
    return (
        f"Expected a finite epsilon >= 0 at delta={delta!r} for {mechanisms!r}, got {outcome}. The "
        "accountant failed numerically, and a number it cannot vouch for is not shown. Choose "
        "another accountant, a larger delta or more noise."
    )
