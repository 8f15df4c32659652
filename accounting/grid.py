"""How finely numerical accountants discretise. Changes how tight a bound is, never its truth."""

import dataclasses
import math
from collections.abc import Iterable

from dpft.accounting.mechanisms import (
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    Selection,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
    steps_of,
)
from dpft.accounting.rules import positive_problems, require

__all__ = [
    "CALIBRATION_GRID",
    "DEFAULT_GRID",
    "Grid",
]

# Below this noise multiplier the privacy loss of one step grows like 1/noise^2, and so do time and
# memory: 30 s and 1.9 GB at 0.1 with 660 steps on one core. A grid that grows alike keeps both.
_LOW_NOISE = 0.25
_LARGEST_NUMBER_OF_POINTS = 2e7
_RAREST_NUMBER_OF_RECORDS = 1e-20  # of one user in one step; a rarer one does not widen the grid


@dataclasses.dataclass(frozen=True)
class Grid:
    """The discretisation of privacy losses.

    Args:
        value_discretization_interval: Distance of neighbouring points of the PLD, > 0, in units of
            epsilon. The error of the bound grows like its square times the number of steps.
        epsilon_error: Half the width of the interval within which PRV encloses epsilon, > 0.

    Raises:
        ConfigurationError: If a field is out of range.

    Privacy:
        Nothing, no data touched. Every grid gives an upper bound; a finer one a smaller bound
        (`test_a_finer_grid_never_gives_a_larger_epsilon`).

    References:
        Doroshenko et al. 2022 (2207.04380), section 3: connect the dots.
    """

    value_discretization_interval: float = 1e-4
    epsilon_error: float = 0.01

    def __post_init__(self) -> None:
        """Check every field."""
        require(
            positive_problems("value_discretization_interval", self.value_discretization_interval),
            positive_problems("epsilon_error", self.epsilon_error),
        )

    def interval_for(self, mechanisms: Iterable[Mechanism]) -> float:
        """Return the interval that is really used: wider only where noise is very low.

        Args:
            mechanisms: What is composed, at least one.

        Returns:
            `value_discretization_interval`, or more where the composition would otherwise take
            gigabytes (epsilon is then in the hundreds, so the relative error stays below 1e-4).

        Privacy:
            Nothing, no data touched.

        Example:
            >>> Grid().interval_for([PoissonGaussian(1.0, 0.01, 1000)])
            0.0001
        """
        reaches = [_reach(mechanism) for mechanism in mechanisms]
        lowest = min(noise for noise, _ in reaches)
        span = math.fsum(loss for _, loss in reaches)
        wide = self.value_discretization_interval * (_LOW_NOISE / lowest) ** 2
        return max(self.value_discretization_interval, wide, span / _LARGEST_NUMBER_OF_POINTS)

    def points_for(self, mechanisms: Iterable[Mechanism]) -> float:
        """Return about how many points the composition spans, before any of it is computed.

        Args:
            mechanisms: What is composed, at least one.

        Privacy:
            Nothing, no data touched (`test_a_certificate_that_takes_hours_is_refused_at_once`).
        """
        given = list(mechanisms)
        return math.fsum(loss for _, loss in map(_reach, given)) / self.interval_for(given)


def _reach(mechanism: Mechanism) -> tuple[float, float]:
    """Return the noise per unit of one step's largest shift, and about how much loss adds up."""
    match mechanism:
        case Composed():
            parts = [_reach(part) for part in mechanism.parts]
            return min(noise for noise, _ in parts), math.fsum(loss for _, loss in parts)
        case RepeatAndSelect():
            return _reach(mechanism.base)
        case PoissonGaussian() | TruncatedPoissonGaussian() | Gaussian() | FixedBatchGaussian():
            rate = getattr(mechanism, "sample_rate", 1.0)
            return _gaussian_reach(mechanism.noise_multiplier, rate * mechanism.steps)
        case DiscreteGaussian():  # of no use there, but a composition may hold one
            return _gaussian_reach(mechanism.noise_multiplier, mechanism.steps)
        case UserPoissonGaussian():
            shift = _largest_shift(mechanism)
            releases = mechanism.sample_rate * mechanism.steps
            return _gaussian_reach(mechanism.noise_multiplier / shift, releases)
        case _:
            return math.inf, steps_of(mechanism) * _pure_epsilon(mechanism)


def _gaussian_reach(noise: float, releases: float) -> tuple[float, float]:
    return noise, releases / (2 * noise**2)


def _largest_shift(mechanism: UserPoissonGaussian) -> float:
    from scipy.stats import binom

    count, rate = mechanism.records_per_user, mechanism.sample_rate
    return max(1.0, float(binom.isf(_RAREST_NUMBER_OF_RECORDS, count, rate)))


def _pure_epsilon(mechanism: Mechanism) -> float:
    match mechanism:
        case Laplace():
            return 1 / mechanism.scale
        case DiscreteLaplace():
            return mechanism.decay * mechanism.sensitivity
        case Selection() | Opaque():
            return mechanism.epsilon
        case _:
            raise AssertionError("every known mechanism has a reach")


DEFAULT_GRID = Grid()
CALIBRATION_GRID = Grid(value_discretization_interval=1e-3)
