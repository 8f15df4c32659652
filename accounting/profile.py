"""What a guarantee looks like beyond one epsilon: its curve, and what an attacker can do.

Every number comes from the same bounds as `epsilon`; the mu of Gaussian privacy is an estimate and
is called one.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from dpft.accounting.accountants import Accountant, composition, epsilon
from dpft.accounting.errors import AccountantError, ConfigurationError
from dpft.accounting.gaussian_curve import gaussian_delta
from dpft.accounting.grid import CALIBRATION_GRID, DEFAULT_GRID, Grid
from dpft.accounting.mechanisms import Mechanism, Opaque
from dpft.accounting.rules import (
    delta_problems,
    fraction_problems,
    name_problems,
    positive_problems,
    require,
)

__all__ = [
    "CURVE_DELTAS",
    "AttackBound",
    "attack_bound",
    "attack_tpr",
    "curve",
    "delta_of",
    "detection_bound",
    "gdp_mu",
    "numerical_error",
]

CURVE_DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
_DELTA_BOUNDS = {
    Accountant.PLD.value: ("dpft.accounting.pld", "pld_delta"),
    Accountant.RDP.value: ("dpft.accounting.rdp", "rdp_delta"),
}
_TRIED_EPSILONS = 60  # per round of the search for the best trade-off
_ROUNDS = 3
_SMALLEST_DELTA_OF_MU = 1e-8  # below it the fit would follow the numerical tail
_COARSER = 10.0
_LARGEST_EPSILON = 1e5
_LARGEST_EXPONENT = 700.0  # of a float; every pair that is tried is a bound, so fewer do no harm


@dataclasses.dataclass(frozen=True)
class AttackBound:
    """How often an attacker can be right, and what that was computed from.

    Args:
        rate: Largest true positive rate, in [0, 1].
        from_curve: Whether the whole trade-off curve was used, not one epsilon and delta alone.
    """

    rate: float
    from_curve: bool


def delta_of(
    mechanism: Mechanism | Sequence[Mechanism],
    epsilon: float,
    *,
    accountant: str = Accountant.PLD,
    grid: Grid = DEFAULT_GRID,
) -> float:
    """Return the delta of mechanisms on the same data at a given epsilon.

    Args:
        mechanism: One mechanism, or several that all touch the same data, in any order.
        epsilon: Finite, > 0.
        accountant: `pld` or `rdp`.
        grid: How finely to discretise.

    Returns:
        An upper bound, in [0, 1].

    Raises:
        ConfigurationError: If epsilon is out of range, or the accountant gives no delta or cannot
            treat a mechanism.
        AccountantError: If the computation fails.

    Privacy:
        Nothing, no data touched (`test_delta_and_epsilon_invert_each_other`).

    Example:
        >>> from dpft.accounting import Gaussian
        >>> round(delta_of(Gaussian(1.0), 1.0), 4)
        0.1269
    """
    require(positive_problems("epsilon", epsilon))
    return _delta_function(mechanism, accountant, grid)(epsilon)


def curve(
    mechanism: Mechanism | Sequence[Mechanism],
    deltas: Iterable[float] = CURVE_DELTAS,
    *,
    accountant: str = Accountant.PLD,
    grid: Grid = DEFAULT_GRID,
) -> tuple[tuple[float, float], ...]:
    """Return epsilon at several deltas; all of the pairs hold together.

    Args:
        mechanism: One mechanism, or several that all touch the same data, in any order.
        deltas: Each in (0, 1).
        accountant: A member of `Accountant` or its value.
        grid: How finely to discretise.

    Returns:
        Pairs (epsilon, delta), in the order of the deltas.

    Raises:
        ConfigurationError: As `epsilon`.
        AccountantError: As `epsilon`.

    Privacy:
        Nothing, no data touched (`test_the_curve_is_epsilon_at_each_delta`).
    """
    given = tuple(deltas)
    require(*(delta_problems(delta) for delta in given))
    return tuple(
        (epsilon(mechanism, delta, accountant=accountant, grid=grid), delta) for delta in given
    )


def attack_tpr(
    mechanism: Mechanism | Sequence[Mechanism],
    fpr: float = 1e-3,
    *,
    accountant: str = Accountant.PLD,
    grid: Grid = DEFAULT_GRID,
) -> float:
    r"""Return the largest true positive rate of any membership attack at a false positive rate.

    Every pair on the curve limits it: :math:`TPR \le e^\epsilon FPR + \delta` and
    :math:`1 - TPR \ge e^{-\epsilon} (1 - \delta - FPR)`. The least of these limits is returned;
    trying more pairs can only lower it, so it bounds every attacker.

    Args:
        mechanism: One mechanism, or several that all touch the same data, in any order.
        fpr: False positive rate, in (0, 1).
        accountant: `pld` or `rdp`.
        grid: How finely to discretise.

    Returns:
        An upper bound on the true positive rate, in [fpr, 1].

    Raises:
        ConfigurationError: If fpr is out of range, or the accountant cannot treat a mechanism.
        AccountantError: If the computation fails.

    Privacy:
        Nothing, no data touched. Holds for attackers who know everything but whether the one
        unit took part (`test_attacks_on_the_gaussian_succeed_as_its_trade_off_says`).

    References:
        Kairouz et al. 2015 (1311.0776), theorem 2.1; Dong et al. 2019 (1905.02383),
        proposition 2.12.

    Example:
        >>> from dpft.accounting import Gaussian
        >>> round(attack_tpr(Gaussian(1.0)), 4)
        0.0183
    """
    require(fraction_problems("fpr", fpr))
    return _largest_rate(_delta_function(mechanism, accountant, grid), fpr)


def detection_bound(epsilon: float, delta: float, fpr: float) -> float:
    """Bound how often an attacker detects a record, from one epsilon and delta alone.

    Args:
        epsilon: Of the guarantee, >= 0.
        delta: Of the guarantee, in [0, 1].
        fpr: Share of absent records that the attacker calls present, in [0, 1].

    Returns:
        Largest possible share of present records that are called present; never below
        `attack_tpr` of a mechanism with this guarantee but for numerical error.

    Privacy:
        Nothing, no data touched (`test_randomised_response_attains_the_detection_bound`).

    References:
        Kairouz et al. 2015 (1311.0776), theorem 2.1.

    Example:
        >>> round(detection_bound(1.0, 0.0, 0.01), 4)
        0.0272
    """
    if not math.isfinite(epsilon):
        return 1.0
    low = math.exp(min(epsilon, _LARGEST_EXPONENT)) * fpr + delta
    high = 1.0 - math.exp(-epsilon) * (1.0 - delta - fpr)
    return min(low, high, 1.0)


def attack_bound(
    mechanisms: Sequence[Mechanism], delta: float, fpr: float, *, accountant: str
) -> AttackBound:
    """Return the best bound on attacks that is known of mechanisms on the same data.

    The curve is discretised on the coarser grid of calibration. Rounding is upwards on every grid,
    so the rate is a bound on this one too, by a part in a thousand larger than on the default one.

    Args:
        mechanisms: At least one, all on the same data.
        delta: At which epsilon is taken where there is no curve, in (0, 1).
        fpr: False positive rate, in (0, 1).
        accountant: A member of `Accountant`, its value, or a registered name.

    Returns:
        The limit by the curve where the accountant gives one and every mechanism is described;
        else that by epsilon at `delta`, as for an opaque release.

    Raises:
        ConfigurationError: If a value is out of range, or the accountant cannot treat a mechanism.
        AccountantError: If the computation fails.

    Privacy:
        Nothing, no data touched (`test_the_bound_on_attacks_is_that_of_the_curve`,
        `test_what_has_no_curve_is_bounded_by_epsilon_and_delta`).
    """
    require(delta_problems(delta), fraction_problems("fpr", fpr))
    together = composition(mechanisms)
    if accountant in _DELTA_BOUNDS and not any(isinstance(each, Opaque) for each in together):
        return AttackBound(_rate_by_curve(together, fpr, accountant), from_curve=True)
    spent = epsilon(together, delta, accountant=accountant)
    return AttackBound(detection_bound(spent, delta, fpr), from_curve=False)


@lru_cache(maxsize=64)  # a report, a certificate and a card ask for the same
def _rate_by_curve(mechanisms: tuple[Mechanism, ...], fpr: float, accountant: str) -> float:
    return _largest_rate(_delta_function(mechanisms, accountant, CALIBRATION_GRID), fpr)


def _largest_rate(delta_at: Callable[[float], float], fpr: float) -> float:
    def limit(spent: float) -> float:
        delta = delta_at(spent)
        missed = math.exp(-spent) * (1 - delta - fpr)
        return min(math.exp(spent) * fpr + delta, 1 - missed, 1.0)

    # Beyond log(1 / fpr) the first limit is above 1, beyond 14 the second within 1e-6 of it.
    low, high = 0.0, min(max(-math.log(fpr), 14.0), _LARGEST_EXPONENT)
    best = limit(0.0)
    for _ in range(_ROUNDS):
        tried = [low + (high - low) * part / _TRIED_EPSILONS for part in range(_TRIED_EPSILONS + 1)]
        limits = [limit(spent) for spent in tried]
        least = min(range(len(limits)), key=limits.__getitem__)
        best = min(best, limits[least])
        low, high = tried[max(least - 1, 0)], tried[min(least + 1, _TRIED_EPSILONS)]
    return max(best, fpr)


def gdp_mu(
    mechanism: Mechanism | Sequence[Mechanism],
    *,
    accountant: str = Accountant.PLD,
    grid: Grid = DEFAULT_GRID,
) -> float:
    r"""Estimate the mu of Gaussian differential privacy: one number that summarises the curve.

    An estimate, not a guarantee: the least :math:`\mu` whose Gaussian is no better than this curve
    wherever delta is at least 1e-8. Beyond that it says nothing. It is not the central limit
    theorem, which understates epsilon and is not offered.

    Args:
        mechanism: One mechanism, or several that all touch the same data, in any order.
        accountant: `pld` or `rdp`.
        grid: How finely to discretise.

    Returns:
        The estimate, > 0; for a Gaussian, the square root of its steps over its noise multiplier.

    Raises:
        ConfigurationError: If the accountant cannot treat a mechanism.
        AccountantError: If the computation fails, or the curve never falls to such a delta.

    Privacy:
        Nothing, no data touched (`test_mu_of_a_gaussian_is_its_own`).

    References:
        Dong et al. 2019 (1905.02383), definition 2.6; Gomez et al. 2025 (2503.10945) for mu as a
        summary.
    """
    delta_at = _delta_function(mechanism, accountant, grid)
    largest = _epsilon_below(_SMALLEST_DELTA_OF_MU, delta_at)
    tried = [largest * part / _TRIED_EPSILONS for part in range(_TRIED_EPSILONS)]
    return max(_mu_through(spent, delta_at(spent)) for spent in tried)


def numerical_error(
    mechanism: Mechanism | Sequence[Mechanism], delta: float, *, grid: Grid = DEFAULT_GRID
) -> float:
    """Return by how much the epsilon of `pld` may exceed the truth because of its grid.

    A tenth of what a ten times coarser grid adds: the error of connect-the-dots falls at least as
    fast as the distance of its points (as its square, until rounding takes over). A check of
    convergence, not a proof.

    Args:
        mechanism: One mechanism, or several that all touch the same data, in any order.
        delta: In (0, 1).
        grid: The grid whose error is asked for.

    Returns:
        The error bar in units of epsilon, >= 0; the truth is expected in [epsilon - error,
        epsilon].

    Raises:
        ConfigurationError: As `epsilon`.
        AccountantError: As `epsilon`.

    Privacy:
        Nothing, no data touched (`test_the_numerical_error_covers_the_truth`).

    References:
        Doroshenko et al. 2022 (2207.04380), section 3.
    """
    require(delta_problems(delta))
    mechanisms = composition(mechanism)
    interval = grid.interval_for(mechanisms)
    fine, coarse = (
        epsilon(mechanisms, delta, grid=Grid(width)) for width in (interval, interval * _COARSER)
    )
    return max(0.0, coarse - fine) / _COARSER


def _delta_function(
    mechanism: Mechanism | Sequence[Mechanism], accountant: str, grid: Grid
) -> Callable[[float], float]:
    require(name_problems("accountant", accountant, _DELTA_BOUNDS))
    module, name = _DELTA_BOUNDS[accountant]
    bound = getattr(importlib.import_module(module), name)
    mechanisms = composition(mechanism)

    def delta_at(spent: float) -> float:
        try:
            delta = float(bound(mechanisms, spent, grid))
        except ConfigurationError:
            raise
        except Exception as error:
            raise AccountantError(_failure(mechanisms, spent, repr(error))) from error
        if not 0 <= delta <= 1:
            raise AccountantError(_failure(mechanisms, spent, f"delta={delta}"))
        return delta

    return delta_at


def _failure(mechanisms: tuple[Mechanism, ...], spent: float, outcome: str) -> str:
    return (
        f"Expected delta in [0, 1] at epsilon={spent!r} for {mechanisms!r}, got {outcome}. The "
        "accountant failed numerically, and a number it cannot vouch for is not shown. Choose "
        "another accountant or another epsilon."
    )


def _epsilon_below(delta: float, delta_at: Callable[[float], float]) -> float:
    """Return an epsilon whose delta is below a given one, to a few percent."""
    low, high = 0.0, 1.0
    while delta_at(high) > delta:
        low, high = high, 2 * high
        if high > _LARGEST_EPSILON:
            raise AccountantError(
                f"Expected delta={delta!r} to be reached by some epsilon <= {_LARGEST_EPSILON:g}. "
                "Without that mu describes nothing. Add noise, or leave out opaque releases."
            )
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return high


def _mu_through(spent: float, delta: float) -> float:
    """Return the mu of the Gaussian with this delta at this epsilon."""
    from scipy.optimize import brentq

    if delta <= 0:
        return 0.0
    low, high = 1e-12, 1.0
    while gaussian_delta(high, spent) < delta:
        high *= 2
    found: float = brentq(lambda mu: gaussian_delta(mu, spent) - delta, low, high, xtol=1e-12)
    return found
