"""A lower bound on epsilon from one run with many canaries, whatever the mechanism is.

Each canary was included by the toss of its own fair coin. An attacker sees what was released and
guesses some of the coins; a guarantee limits how many guesses can be right.
"""

import math
from collections.abc import Sequence

from dpft.accounting.auditing.game import Played
from dpft.accounting.rules import delta_problems, fraction_problems, require

__all__ = ["CONFIDENCE", "one_run_ceiling", "one_run_epsilon"]

CONFIDENCE = 0.95
"""Of every bound, unless another is asked for."""

_SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)  # of all canaries that are guessed, fixed
_LARGEST_EPSILON = 64.0
_PRECISION = 1e-6


def one_run_epsilon(played: Played, delta: float, *, confidence: float = CONFIDENCE) -> float:
    r"""Return the largest epsilon that the guesses refute.

    The canaries with the highest scores are guessed to be in, as many with the lowest to be out,
    for eight fixed shares of them; each share gets an eighth of the error probability. If the run
    is (epsilon, delta)-private, the number of right guesses among r is at least v with probability
    at most :math:`\beta + 2 m \delta \max_i \frac{1}{i} P(v - i \le B < v)`, where B is binomial
    with r tosses of :math:`e^\epsilon / (1 + e^\epsilon)` and :math:`\beta = P(B \ge v)`.

    Args:
        played: Scores and coins of all canaries.
        delta: In [0, 1); far below 1 / canaries, or nothing can be refuted.
        confidence: With which epsilon is at least what is returned, in (0, 1).

    Returns:
        Epsilon >= 0; 0 if nothing is refuted.

    Raises:
        ConfigurationError: If a number is out of range.

    Privacy:
        Nothing of the mechanism is assumed. Holds for canaries whose coins are fair and independent
        of everything else (`test_perfect_guesses_reach_the_ceiling`).

    References:
        Steinke et al. 2023 (2305.08846), theorem 5.2.
    """
    _check(delta, confidence)
    error = (1 - confidence) / len(_SHARES)
    found = [
        _refuted(played.canaries, 2 * each, played.right(each), delta, error)
        for each in _numbers_guessed(played.canaries)
    ]
    return max(found, default=0.0)


def one_run_ceiling(canaries: int, delta: float, *, confidence: float = CONFIDENCE) -> float:
    """Return what `one_run_epsilon` would return if every guess were right.

    Args:
        canaries: Their number, >= 2.
        delta: As there.
        confidence: As there.

    Raises:
        ConfigurationError: If a number is out of range.

    Privacy:
        Nothing, no data touched. A true epsilon above it cannot be seen
        (`test_the_ceiling_grows_with_the_canaries`).
    """
    _check(delta, confidence)
    error = (1 - confidence) / len(_SHARES)
    return max(
        (_refuted(canaries, 2 * k, 2 * k, delta, error) for k in _numbers_guessed(canaries)),
        default=0.0,
    )


def _check(delta: float, confidence: float) -> None:
    require(
        [] if delta == 0 else delta_problems(delta), fraction_problems("confidence", confidence)
    )


def _numbers_guessed(canaries: int) -> Sequence[int]:
    """Return how many are guessed to be in; as many are guessed to be out."""
    return sorted({max(1, int(share * canaries)) for share in _SHARES} if canaries > 1 else ())


def _refuted(canaries: int, guesses: int, right: int, delta: float, error: float) -> float:
    """Return the largest epsilon under which so many right guesses have at most this chance."""
    if _chance(0.0, canaries, guesses, right, delta) > error:
        return 0.0
    low, high = 0.0, _LARGEST_EPSILON
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if _chance(middle, canaries, guesses, right, delta) <= error:
            low = middle
        else:
            high = middle
    return low


def _chance(epsilon: float, canaries: int, guesses: int, right: int, delta: float) -> float:
    """Return the most that the probability of so many right guesses can be."""
    import numpy as np
    from scipy.stats import binom

    tossed = binom(guesses, 1 / (1 + math.exp(-epsilon)))
    chance = float(tossed.sf(right - 1))
    if delta == 0 or right == 0:
        return min(1.0, chance)
    below = np.cumsum(tossed.pmf(np.arange(right - 1, -1, -1)))
    worst = float(np.max(below / np.arange(1, right + 1)))
    return min(1.0, chance + 2 * canaries * delta * worst)
