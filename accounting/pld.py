"""The accountant `pld`: numerical composition of privacy loss distributions, the default.

Connect-the-dots discretisation, of Gaussians by `dpft.accounting.mixture`, of all else by
dp-accounting. Imported on demand by the registry. Events of dp-accounting are not used: 0.6 answers
truncated batches under add-or-remove with the number of zero-out, and ignores how often randomised
response is composed.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache, singledispatch
from typing import TYPE_CHECKING

from dpft.accounting.convolution import convolved, epsilon_at, lost_to_rounding
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import Grid
from dpft.accounting.mechanisms import (
    Adjacency,
    Composed,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    Selection,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
    steps_of,
)
from dpft.accounting.mixture import mixture_distribution
from dpft.accounting.registry import register

if TYPE_CHECKING:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

__all__ = [
    "loss_distribution",
    "pld_delta",
    "pld_epsilon",
]

_OF_FEW_LOSSES = (Opaque, Selection)  # far apart: dp-accounting adds them up one by one
_SMALLEST_RATE = 1e-12  # 1 - rate has lost the digits of a smaller one


@register("pld")
def pld_epsilon(mechanisms: tuple[Mechanism, ...], delta: float, grid: Grid) -> float:
    """Bound epsilon by composing privacy loss distributions.

    Args:
        mechanisms: At least one; all share one adjacency.
        delta: In (0, 1).
        grid: Its `value_discretization_interval` is used.

    Returns:
        An upper bound on epsilon at delta; infinite if delta lies below the tail mass (1e-15) that
        is cut from the distributions, or below what rounding may hide (1e-16 to 4e-16 per step),
        which the caller refuses.

    Raises:
        ConfigurationError: If one of them repeats and selects, of which only RDP has a bound.

    Privacy:
        Nothing, no data touched. Checked against closed forms and 14 published settings
        (`test_epsilon_agrees_with_the_published_anchor`,
        `test_rounding_never_lowers_a_bound_at_a_tiny_delta`).

    References:
        Koskela et al. 2020 (1906.03049); Doroshenko et al. 2022 (2207.04380), section 3.
    """
    losses, rounding = _composed(mechanisms, grid.interval_for(mechanisms))
    remaining = delta - rounding
    if remaining <= 0:
        return math.inf
    epsilon = epsilon_at(losses, remaining)
    if math.isfinite(epsilon):
        return epsilon
    return _epsilon_by_bisection(losses.get_delta_for_epsilon, remaining)


def pld_delta(mechanisms: tuple[Mechanism, ...], epsilon: float, grid: Grid) -> float:
    """Bound delta by composing privacy loss distributions.

    Args:
        mechanisms: At least one; all share one adjacency.
        epsilon: >= 0.
        grid: Its `value_discretization_interval` is used.

    Returns:
        An upper bound on delta at epsilon, in [0, 1].

    Raises:
        ConfigurationError: If one of them repeats and selects, of which only RDP has a bound.

    Privacy:
        Nothing, no data touched (`test_delta_and_epsilon_invert_each_other`).
    """
    losses, rounding = _composed(mechanisms, grid.interval_for(mechanisms))
    delta = max(0.0, float(losses.get_delta_for_epsilon(epsilon)))
    return min(1.0, delta + rounding)


def loss_distribution(
    mechanisms: tuple[Mechanism, ...], interval: float
) -> "PrivacyLossDistribution":
    """Return the discretised losses of mechanisms on the same data, from above.

    Args:
        mechanisms: At least one; all share one adjacency.
        interval: Distance of neighbouring points of the grid of losses, > 0.

    Returns:
        The composition, from above but for rounding, which `pld_epsilon` and `pld_delta` add: all
        Gaussians that sampling does not amplify as one, equal mechanisms as one to a power, so that
        a schedule costs as much as it has different values.

    Raises:
        ConfigurationError: If one of them repeats and selects, of which only RDP has a bound.

    Privacy:
        Nothing, no data touched (`test_a_mix_costs_more_than_each_and_less_than_the_sum`).
    """
    losses, _ = _composed(mechanisms, interval)
    return losses


@lru_cache(maxsize=2)  # a curve asks for the same distribution again, and one may fill 100 MB
def _composed(
    mechanisms: tuple[Mechanism, ...], interval: float
) -> tuple["PrivacyLossDistribution", float]:
    """Return the losses of a composition, and by how much rounding may lower their delta."""
    information = 0.0
    counted: Counter[Mechanism] = Counter()
    for mechanism in _parts(mechanisms):
        released = _unamplified(mechanism)
        information += released
        if not released:
            counted[mechanism] += 1
    many = [mechanism for mechanism in counted if not isinstance(mechanism, _OF_FEW_LOSSES)]
    factors = [
        (_one_step(mechanism, interval), counted.pop(mechanism) * steps_of(mechanism))
        for mechanism in many
    ]
    if information:
        factors.append((_gaussian(information, interval), 1))
    few = [(_one_step(mechanism, interval), count) for mechanism, count in counted.items()]
    rounding = lost_to_rounding([*factors, *few])
    if few:
        factors.append((_one_by_one(few, interval), 1))
    return convolved(factors, interval), rounding


def _gaussian(information: float, interval: float) -> "PrivacyLossDistribution":
    """Return the losses of so many releases with noise 1."""
    import numpy as np

    return mixture_distribution(information**-0.5, np.array([0.0, 1.0]), interval)


def _one_by_one(
    few: Iterable[tuple["PrivacyLossDistribution", int]], interval: float
) -> "PrivacyLossDistribution":
    """Add up losses that take few values, however far apart."""
    from dp_accounting.pld import privacy_loss_distribution

    composed = privacy_loss_distribution.identity(interval)
    for each, count in few:
        composed = composed.compose(each.self_compose(count))
    return composed


def _parts(mechanisms: Iterable[Mechanism]) -> list[Mechanism]:
    """Return what was composed, one by one."""
    found: list[Mechanism] = []
    for mechanism in mechanisms:
        found += _parts(mechanism.parts) if isinstance(mechanism, Composed) else [mechanism]
    return found


def _unamplified(mechanism: Mechanism) -> float:
    """Return how many Gaussian releases with noise 1 a mechanism equals; 0 if it is none such."""
    match mechanism:
        case Gaussian() | PoissonGaussian(sample_rate=1.0):
            releases, shift = mechanism.steps, 1
        case FixedBatchGaussian():
            releases, shift = mechanism.participations, 1
        case UserPoissonGaussian(sample_rate=1.0):
            releases, shift = mechanism.steps, mechanism.records_per_user
        case _:
            return 0.0
    distance = 2 * shift if mechanism.adjacency is Adjacency.REPLACE_ONE else shift
    return releases * (distance / mechanism.noise_multiplier) ** 2


@singledispatch
def _one_step(mechanism: Mechanism, interval: float) -> "PrivacyLossDistribution":  # noqa: ARG001  # the signature of those below
    raise ConfigurationError(
        f"Expected accountant=pld with mechanisms of which it has a bound, not {mechanism.kind}. "
        "What has no bound is never guessed. Set accountant to rdp."
    )


@_one_step.register(PoissonGaussian)
def _(mechanism: PoissonGaussian, interval: float) -> "PrivacyLossDistribution":
    import numpy as np
    from dp_accounting.pld import privacy_loss_distribution

    known = mechanism.adjacency is not Adjacency.REPLACE_ONE
    if known and mechanism.sample_rate > _SMALLEST_RATE:
        weights = np.array([1 - mechanism.sample_rate, mechanism.sample_rate])
        return mixture_distribution(mechanism.noise_multiplier, weights, interval)
    return privacy_loss_distribution.from_gaussian_mechanism(
        mechanism.noise_multiplier,
        value_discretization_interval=interval,
        sampling_prob=mechanism.sample_rate,
        neighboring_relation=_relation(mechanism.adjacency),
    )


@_one_step.register(TruncatedPoissonGaussian)
def _(mechanism: TruncatedPoissonGaussian, interval: float) -> "PrivacyLossDistribution":
    from dp_accounting.pld import privacy_loss_distribution

    assert mechanism.adjacency is not Adjacency.ADD_OR_REMOVE, "the mechanism checks its adjacency"
    return privacy_loss_distribution.from_truncated_subsampled_gaussian_mechanism(
        dataset_size=mechanism.num_records,
        sampling_probability=mechanism.sample_rate,
        truncated_batch_size=mechanism.largest_batch,
        noise_multiplier=mechanism.noise_multiplier,
        value_discretization_interval=interval,
        neighboring_relation=_relation(mechanism.adjacency),
    )


@_one_step.register(UserPoissonGaussian)
def _(mechanism: UserPoissonGaussian, interval: float) -> "PrivacyLossDistribution":
    import numpy as np
    from scipy.stats import binom

    count = mechanism.records_per_user
    weights = binom.pmf(np.arange(count + 1), count, mechanism.sample_rate)
    return mixture_distribution(mechanism.noise_multiplier, weights, interval)


@_one_step.register(Laplace)
def _(mechanism: Laplace, interval: float) -> "PrivacyLossDistribution":
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_laplace_mechanism(
        mechanism.scale, value_discretization_interval=interval
    )


@_one_step.register(DiscreteLaplace)
def _(mechanism: DiscreteLaplace, interval: float) -> "PrivacyLossDistribution":
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_discrete_laplace_mechanism(
        mechanism.decay, mechanism.sensitivity, value_discretization_interval=interval
    )


@_one_step.register(Selection)
def _(mechanism: Selection, interval: float) -> "PrivacyLossDistribution":
    return _from_guarantee(mechanism.epsilon, 0.0, interval)


@_one_step.register(Opaque)
def _(mechanism: Opaque, interval: float) -> "PrivacyLossDistribution":
    return _from_guarantee(mechanism.epsilon, mechanism.delta, interval)


def _from_guarantee(epsilon: float, delta: float, interval: float) -> "PrivacyLossDistribution":
    """Losses of the worst mechanism that is (epsilon, delta)-private: Kairouz et al. 2015."""
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as losses

    guarantee = common.DifferentialPrivacyParameters(epsilon, delta)
    return losses.from_privacy_parameters(guarantee, interval)


def _relation(adjacency: Adjacency) -> "NeighboringRelation":
    from dp_accounting import NeighboringRelation

    return {
        Adjacency.ADD_OR_REMOVE: NeighboringRelation.ADD_OR_REMOVE_ONE,
        Adjacency.ZERO_OUT: NeighboringRelation.REPLACE_SPECIAL,
        Adjacency.REPLACE_ONE: NeighboringRelation.REPLACE_ONE,
    }[adjacency]


def _epsilon_by_bisection(delta_at: Callable[[float], float], delta: float) -> float:
    """Return epsilon between 600 and 760 where the quotient of `epsilon_at` overflows.

    It divides by sums of exp(-loss), which lose all digits near exp(-709); delta at a given epsilon
    does not. The upper end of the interval is returned, so the result stays a bound.
    """
    low, high = 600.0, 760.0
    if delta_at(high) > delta:  # the tail mass alone exceeds delta
        return math.inf
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return high
