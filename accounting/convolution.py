"""Composition of discretised privacy losses by one Fourier transform, and epsilon of the result.

dp-accounting composes in pairs and walks over the points in Python: eight different runs took 9.2
CPU seconds, 1.0 here (2026-11-21, one core). It discretises most mechanisms and serves as the
check. The accountant `pld` is the only user.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from dp_accounting.pld.pld_pmf import PLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

__all__ = ["convolved", "epsilon_at", "lost_to_rounding"]

_MOST_ORDERS = 40
_TAIL = 1e-15  # mass that may be cut from the result; all of it counts as an infinite loss
# A power of a Fourier transform loses as many units of rounding as it has factors: up to 1.9 of
# them over 2 to 1e5 steps, up to 6 times the norm of the masses where that is small, against sums
# without cancellation (186 compositions, 2026-11-21, x86-64). The error grows like the norm, and
# like the root of the transform's logarithm: half as much again for 2^24 points.
_UNIT = 2.0**-53
_PER_NORM = 10.0
_MOST_UNITS = 4.0


class _Masses(NamedTuple):
    """The losses `first`, `first + 1`, ... in units of the grid, with their probabilities."""

    first: int
    masses: "np.ndarray"
    infinite: float
    times: int

    @property
    def last(self) -> int:
        return self.first + len(self.masses) - 1


def convolved(
    factors: Sequence[tuple["PrivacyLossDistribution", int]], interval: float
) -> "PrivacyLossDistribution":
    """Return the distribution of the sum of independent losses.

    Args:
        factors: At least one distribution, each with the number >= 1 of times that it is taken.
        interval: Distance of neighbouring points, that of all factors.

    Returns:
        The distribution, from above but for `lost_to_rounding`: what lies outside of the range that
        is kept, 1e-15 at most, counts as an infinite loss.

    Privacy:
        Nothing, no data touched (`test_the_convolution_agrees_with_dp_accounting`,
        `test_what_is_cut_counts_as_an_infinite_loss`).

    References:
        Koskela et al. 2020 (1906.03049), section 5; Gopi et al. 2021 (2106.02848), appendix A.
    """
    from dp_accounting.pld.pld_pmf import DensePLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

    if len(factors) == 1 and factors[0][1] == 1:
        return factors[0][0]
    sides = []
    for side in ("_pmf_remove", "_pmf_add"):
        parts = [_masses(getattr(losses, side), times) for losses, times in factors]
        whole = _whole(parts)
        sides.append(
            DensePLDPmf(
                interval, whole.first, whole.masses, whole.infinite, pessimistic_estimate=True
            )
        )
        if all(losses._symmetric for losses, _ in factors):  # noqa: SLF001  # has no public name
            break
    return PrivacyLossDistribution(*sides)


def lost_to_rounding(factors: Sequence[tuple["PrivacyLossDistribution", int]]) -> float:
    """Return by how much rounding in `convolved` may lower delta.

    Args:
        factors: As in `convolved`.

    Returns:
        Units of rounding, one for each time a factor is taken, more for one whose masses lie close
        together: what is sampled rarely loses nothing in most steps. 0 for a single release.

    Privacy:
        Nothing, no data touched. Measured, with a margin of 2; not a proof
        (`test_rounding_never_lowers_a_bound_of_what_is_sampled_rarely`).

    References:
        Gopi et al. 2021 (2106.02848), appendix A: errors of the transform.
    """
    if sum(times for _, times in factors) == 1:
        return 0.0
    return _UNIT * math.fsum(times * _units(each) for each, times in factors)


def _units(losses: "PrivacyLossDistribution") -> float:
    return min(_MOST_UNITS, max(1.0, _PER_NORM * _norm(losses)))


def _norm(losses: "PrivacyLossDistribution") -> float:
    import numpy as np

    return max(float(np.linalg.norm(_masses(side, 1).masses)) for side in _sides(losses))


def epsilon_at(losses: "PrivacyLossDistribution", delta: float) -> float:
    """Return the least epsilon >= 0 at which a distribution has no larger delta.

    Args:
        losses: Any.
        delta: In (0, 1).

    Returns:
        Epsilon; infinite if the mass of infinite losses exceeds delta, or where exp(-epsilon) has
        lost its digits.

    Privacy:
        Nothing, no data touched (`test_epsilon_of_losses_agrees_with_dp_accounting`).
    """
    sides = _sides(losses)
    return max(_epsilon_of(_masses(side, 1), side._discretization, delta) for side in sides)  # noqa: SLF001


def _sides(losses: "PrivacyLossDistribution") -> tuple["PLDPmf", "PLDPmf"]:
    return losses._pmf_remove, losses._pmf_add  # noqa: SLF001  # have no public name


def _masses(side: "PLDPmf", times: int) -> _Masses:
    dense = side.to_dense_pmf()
    return _Masses(dense._lower_loss, dense._probs, dense._infinity_mass, times)  # noqa: SLF001  # have no public name


def _whole(parts: Sequence[_Masses]) -> _Masses:
    """Multiply the transforms: a circle that is no shorter than any part, and than the range kept.

    What goes round the circle is added to other losses and to the infinite ones: it counts twice.
    """
    import numpy as np
    from scipy import fft

    low, high = _range(parts)
    longest = max(len(part.masses) for part in parts)
    length = fft.next_fast_len(max(high - low + 1, longest), real=True)
    transform = np.ones(length // 2 + 1, dtype=complex)
    for part in parts:
        transform *= fft.rfft(part.masses, length) ** part.times
    start = low - sum(part.first * part.times for part in parts)
    masses = np.roll(fft.irfft(transform, length), -(start % length))[: high - low + 1]
    finite = math.fsum(part.times * math.log1p(-part.infinite) for part in parts)
    return _Masses(low, masses, _TAIL - math.expm1(finite), 1)


def _range(parts: Sequence[_Masses]) -> tuple[int, int]:
    """Return losses between which all of the sum lies but for the tail, by Chernoff's bound."""
    import numpy as np

    low = sum(part.first * part.times for part in parts)
    high = sum(part.last * part.times for part in parts)
    variance = math.fsum(part.times * _variance(part) for part in parts)
    if variance <= 0:
        return low, high
    needed = math.log(2 / _TAIL)
    with np.errstate(divide="ignore"):
        logs = [np.log(np.maximum(part.masses, 0.0)) for part in parts]

    def reach(order: float) -> float:
        moments = (_log_moment(each, log, order) for each, log in zip(parts, logs, strict=True))
        return (math.fsum(moments) + needed) / abs(order)

    start = math.sqrt(2 * needed / variance)  # the best order for a Gaussian
    above = _least(reach, start, math.sqrt(variance) / 10)
    below = _least(lambda order: reach(-order), start, math.sqrt(variance) / 10)
    return max(low, math.floor(-below) - 1), min(high, math.ceil(above) + 1)


def _least(bound: Callable[[float], float], order: float, enough: float) -> float:
    """Return about the least of a bound that holds at every order and has a single valley."""
    value = bound(order)
    for factor in (0.5, 2.0, 0.75, 1.25):
        for _ in range(_MOST_ORDERS):
            tried = bound(order * factor)
            if not tried < value - enough:
                break
            order, value = order * factor, tried
    return value


def _variance(part: _Masses) -> float:
    import numpy as np

    places = np.arange(len(part.masses), dtype=float)
    mean = float(part.masses @ places)
    return float(part.masses @ (places - mean) ** 2)


def _log_moment(part: _Masses, logs: "np.ndarray", order: float) -> float:
    """Logarithm of the mean of exp(order * loss), as often as the part is taken."""
    import numpy as np

    exponents = logs + order * np.arange(len(logs))
    top = float(exponents.max())
    total = math.log(float(np.exp(exponents - top).sum()))
    return part.times * (order * part.first + top + total)


def _epsilon_of(side: _Masses, interval: float, delta: float) -> float:
    """Solve for the point where mass above - exp(epsilon) * mass above in the other world = delta.

    Both masses are sums over the losses above epsilon, from the top; epsilon lies between the
    first loss that it exceeds and the one before.
    """
    import numpy as np

    if side.infinite > delta:
        return math.inf
    losses = interval * np.arange(max(side.first, 1), side.last + 1)[::-1]
    masses = side.masses[max(side.first, 1) - side.first :][::-1]
    upper = side.infinite + np.concatenate([[0.0], np.cumsum(masses)])
    lower = np.concatenate([[0.0], np.cumsum(masses * np.exp(-losses))])
    beyond = np.flatnonzero((upper[1:] >= delta) & (lower[1:] == 0))
    if len(beyond):  # exp(-loss) is 0 in floats: the loss itself is the bound
        return float(losses[beyond[0]])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        solved = np.log((upper - delta) / lower)
    reached = np.flatnonzero((upper[:-1] > delta) & (lower[:-1] > 0) & (solved[:-1] >= losses))
    place = int(reached[0]) if len(reached) else len(losses)
    return max(0.0, float(solved[place])) if upper[place] > lower[place] + delta else 0.0
