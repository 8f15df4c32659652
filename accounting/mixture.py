"""Privacy losses of a Gaussian whose shift is a random number: sampled records and users.

Connect-the-dots in both directions. dp-accounting has the same distributions, but finds each point
of the grid by itself, in Python: 80 s for two records per user, 0.3 s here; 0.9 s for one sampled
record, 0.05 s here. It serves as the check. The accountant `pld` is the only user.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

__all__ = ["mixture_distribution"]

_LOG_TAIL = -50.0  # mass beyond which the noise is cut; it counts as an infinite loss
_SMALLEST_WEIGHT = 1e-30  # a shift that is rarer counts as an infinite loss
_SMALLEST_MASS = 1e-280  # below it a quotient of masses has lost its digits
_NEWTON_STEPS = 30
_POINTS_AT_ONCE = 1 << 15


class _Shifted(NamedTuple):
    """The mixture of N(j, noise^2) over shifts j > 0, and of N(0, noise^2)."""

    noise: float
    shifts: "np.ndarray"
    log_weights: "np.ndarray"
    log_unshifted: float  # logarithm of the weight of N(0, noise^2); -inf if there is none
    dropped: float


def mixture_distribution(
    noise: float, weights: "np.ndarray", interval: float
) -> "PrivacyLossDistribution":
    """Return the privacy losses between N(0, noise^2) and a mixture of its shifts, both ways.

    Args:
        noise: Standard deviation, > 0, in units of the smallest shift.
        weights: Probability of a shift by 0, 1, 2, ...; they sum to 1, and one above 0 is positive.
        interval: Distance of neighbouring points of the grid of losses, > 0.

    Returns:
        The discretised distribution, from above.

    Privacy:
        Nothing, no data touched (`test_the_mixture_agrees_with_dp_accounting`).

    References:
        Choquette-Choo et al. 2023 (2310.15526), corollary 4.7; Doroshenko et al. 2022
        (2207.04380), algorithm 1: the mass between two points goes to both so that neither of the
        two distributions loses any.
    """
    import numpy as np
    from dp_accounting.pld.pld_pmf import DensePLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

    mixture = _shifted(noise, weights)
    lowest, highest = _range(mixture)
    first, last = math.floor(lowest / interval), math.ceil(highest / interval)
    losses = np.arange(first, last + 1) * interval
    edges = np.concatenate([[-np.inf], _inverse(mixture, losses), [np.inf]])
    plain, mixed = _plain_mass(edges, noise), _mixed_mass(mixture, edges)

    removed = _connected(mixed[1:-1], plain[1:-1], losses[:-1], interval)
    removed[0] += mixed[0]
    added = _connected(plain[1:-1][::-1], mixed[1:-1][::-1], -losses[:0:-1], interval)
    added[0] += plain[-1]
    return PrivacyLossDistribution(
        DensePLDPmf(interval, first, removed, float(mixed[-1]) + mixture.dropped, True),  # noqa: FBT003  # their signature
        DensePLDPmf(interval, -last, added, float(plain[0]) + mixture.dropped, True),  # noqa: FBT003  # their signature
    )


def _shifted(noise: float, weights: "np.ndarray") -> _Shifted:
    import numpy as np

    kept = weights > _SMALLEST_WEIGHT
    shifts = np.flatnonzero(kept[1:]) + 1
    return _Shifted(
        noise=noise,
        shifts=shifts.astype(float),
        log_weights=np.log(weights[shifts]),
        log_unshifted=math.log(weights[0]) if kept[0] else -math.inf,
        dropped=float(weights[~kept].sum()),
    )


def _range(mixture: _Shifted) -> tuple[float, float]:
    """Return the losses at which the noise, and the mixture, are cut."""
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import log_ndtr, logsumexp

    cut = brentq(lambda z: log_ndtr(z) - _LOG_TAIL, -40.0, 0.0)
    reach = -cut * mixture.noise

    def excess(point: float) -> float:
        tails = log_ndtr((mixture.shifts - point) / mixture.noise)
        return float(logsumexp(mixture.log_weights + tails)) - _LOG_TAIL

    far = float(mixture.shifts[-1]) + reach
    top = brentq(excess, 0.0, far) if excess(far) < 0 < excess(0.0) else far
    return tuple(_losses(mixture, np.array([-reach, max(top, reach)])))


def _exponents(mixture: _Shifted, points: "np.ndarray") -> "np.ndarray":
    """Logarithms of the shifted parts over the unshifted Gaussian, one row per shift."""
    shifts = mixture.shifts[:, None]
    exponents: np.ndarray = (
        mixture.log_weights[:, None] + shifts * (points - shifts / 2) / mixture.noise**2
    )
    return exponents


def _losses(mixture: _Shifted, points: "np.ndarray") -> "np.ndarray":
    import numpy as np

    shifted = np.logaddexp.reduce(_exponents(mixture, points))
    losses: np.ndarray = np.logaddexp(shifted, mixture.log_unshifted)
    return losses


def _inverse(mixture: _Shifted, losses: "np.ndarray") -> "np.ndarray":
    """Return the points with these losses; -inf where even the weight of no shift exceeds them."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        targets = losses + np.log(-np.expm1(mixture.log_unshifted - losses))
    points = np.full_like(losses, -np.inf)
    reachable = np.flatnonzero(np.isfinite(targets))
    for start in range(0, len(reachable), _POINTS_AT_ONCE):
        chunk = reachable[start : start + _POINTS_AT_ONCE]
        points[chunk] = _newton(mixture, targets[chunk])
    return points


def _newton(mixture: _Shifted, targets: "np.ndarray") -> "np.ndarray":
    """Solve for the points at which the shifted parts have these logarithms.

    The sum of exponentials has a convex logarithm that lies above each of its terms: started where
    the first term reaches the target, Newton's steps approach the root from one side.
    """
    import numpy as np

    shifts = mixture.shifts[:, None]
    starts = (targets - mixture.log_weights[:, None]) * mixture.noise**2 / shifts + shifts / 2
    points = starts.min(axis=0)
    for _ in range(_NEWTON_STEPS):
        exponents = _exponents(mixture, points)
        top = exponents.max(axis=0)
        parts = np.exp(exponents - top)
        total = parts.sum(axis=0)
        slope = (shifts * parts).sum(axis=0) / total / mixture.noise**2
        step = (top + np.log(total) - targets) / slope
        points = points - step
        if np.abs(step).max() <= 1e-13 * mixture.noise:
            break
    ascending: np.ndarray = np.maximum.accumulate(points)
    return ascending


def _plain_mass(edges: "np.ndarray", noise: float, shift: float = 0.0) -> "np.ndarray":
    """Mass of N(shift, noise^2) between neighbouring edges, to full relative precision."""
    import numpy as np
    from scipy.special import ndtr

    scaled = (edges - shift) / noise
    below, above = ndtr(scaled), ndtr(-scaled)
    mass: np.ndarray = np.where(scaled[:-1] > 0, above[:-1] - above[1:], below[1:] - below[:-1])
    return mass


def _mixed_mass(mixture: _Shifted, edges: "np.ndarray") -> "np.ndarray":
    import numpy as np

    mass: np.ndarray = np.exp(mixture.log_unshifted) * _plain_mass(edges, mixture.noise)
    for shift, log_weight in zip(mixture.shifts, mixture.log_weights, strict=True):
        mass = mass + math.exp(log_weight) * _plain_mass(edges, mixture.noise, shift)
    return mass


def _connected(
    upper: "np.ndarray", lower: "np.ndarray", losses: "np.ndarray", interval: float
) -> "np.ndarray":
    """Give the mass of each interval [loss, loss + interval] to its two ends.

    The share v of the far end solves two equations: all of `upper` is given, and so is all of
    `lower`, where an end at loss e counts exp(-e). Where digits are lost all goes to the far end,
    which is from above.
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        far = (upper - lower * np.exp(losses)) / -math.expm1(-interval)
    trusted = (lower > _SMALLEST_MASS) & np.isfinite(far)
    far = np.where(trusted, np.clip(far, 0.0, upper), upper)
    mass = np.zeros(len(upper) + 1)
    mass[:-1] += upper - far
    mass[1:] += far
    return mass
