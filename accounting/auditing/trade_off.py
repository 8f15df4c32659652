"""Lower bounds on epsilon from the error rates of an attack on independent canaries.

Sharper than the bound of one run, but every canary must be a game of its own: what is released of
one may not depend on another. Canaries that own a coordinate each, under Poisson sampling, are.
"""

import math
from collections.abc import Sequence

from dpft.accounting.auditing.game import Played
from dpft.accounting.auditing.one_run import CONFIDENCE
from dpft.accounting.gaussian_curve import gaussian_delta
from dpft.accounting.rules import delta_problems, fraction_problems, require

__all__ = ["gaussian_epsilon", "rates_epsilon"]

_FARTHEST = 40.0  # standard deviations beyond which no float is above zero
_STEPS_OF_BISECTION = 60


def gaussian_epsilon(
    played: Played,
    thresholds: Sequence[float],
    delta: float,
    *,
    confidence: float = CONFIDENCE,
) -> float:
    r"""Return a lower bound on epsilon, if the trade-off curve has the shape of a Gaussian.

    At each threshold, :math:`\mu \ge \Phi^{-1}(TPR) - \Phi^{-1}(FPR)`, with Clopper and Pearson's
    bounds for both rates; the error probability is shared equally.

    Args:
        played: Scores and coins of independent canaries.
        thresholds: Fixed without looking at the scores.
        delta: In (0, 1).
        confidence: In (0, 1).

    Returns:
        Epsilon >= 0 at delta.

    Raises:
        ConfigurationError: If a number is out of range.

    Privacy:
        Assumes independent canaries and a Gaussian trade-off curve: many small steps come near to
        one. A result above the claim points at a fault, one below proves nothing
        (`test_a_gaussian_is_found_from_below`).

    References:
        Nasr et al. 2023 (2302.07956), section 4; Dong et al. 2019 (1905.02383), corollary 2.13.
    """
    require(delta_problems(delta), fraction_problems("confidence", confidence))
    from scipy.stats import norm

    found = 0.0
    for least, most in _rates(played, thresholds, confidence):
        found = max(found, float(norm.ppf(least) - norm.ppf(most)))
    return _epsilon_of_gaussian(found, delta)


def rates_epsilon(
    played: Played,
    thresholds: Sequence[float],
    delta: float,
    *,
    confidence: float = CONFIDENCE,
) -> float:
    r"""Return a lower bound on epsilon from both rates alone, without a shape.

    :math:`TPR \le e^\epsilon FPR + \delta`, and the same of the errors' complements.

    Args:
        played: Scores and coins of independent canaries.
        thresholds: Fixed without looking at the scores.
        delta: In (0, 1).
        confidence: In (0, 1).

    Returns:
        Epsilon >= 0 at delta.

    Raises:
        ConfigurationError: If a number is out of range.

    Privacy:
        Assumes independent canaries (`test_rates_bound_from_below_without_a_shape`).

    References:
        Kairouz et al. 2015 (1311.0776), theorem 2.1; Nasr et al. 2021 (2101.04535), section 3.
    """
    require(delta_problems(delta), fraction_problems("confidence", confidence))
    found = 0.0
    for least, most in _rates(played, thresholds, confidence):
        for hit, miss in ((least, most), (1 - most, 1 - least)):
            if hit > delta and miss > 0:
                found = max(found, math.log((hit - delta) / miss))
    return found


def _rates(
    played: Played, thresholds: Sequence[float], confidence: float
) -> list[tuple[float, float]]:
    """Return, by threshold, the least true and the most false positive rate, all at once."""
    error = (1 - confidence) / (2 * max(1, len(thresholds)))
    inside = int(played.included.sum())
    outside = played.canaries - inside
    found = []
    for threshold in thresholds:
        hits, alarms = played.shares_above(threshold)
        found.append((_least(hits, inside, error), 1 - _least(outside - alarms, outside, error)))
    return found


def _least(successes: int, tries: int, error: float) -> float:
    """Return Clopper and Pearson's lower bound of a probability."""
    from scipy.stats import beta

    return float(beta.ppf(error, successes, tries - successes + 1)) if successes else 0.0


def _epsilon_of_gaussian(mu: float, delta: float) -> float:
    """Return the epsilon of a Gaussian mechanism of this mu, from below."""
    if mu <= 0 or gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, mu * (mu + 2 * _FARTHEST)
    for _ in range(_STEPS_OF_BISECTION):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(mu, middle) > delta else (low, middle)
    return low
