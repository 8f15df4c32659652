"""Integer noise for counts: the two-sided geometric distribution, drawn exactly.

Floating-point Laplace noise leaks through its low-order bits; here every draw is exact arithmetic
on integers and fractions, from the operating system's randomness. No torch in here.
"""

import secrets
from collections.abc import Callable
from fractions import Fraction

__all__ = ["discrete_laplace"]

_RandBelow = Callable[[int], int]


def discrete_laplace(epsilon: float, randbelow: _RandBelow = secrets.randbelow) -> int:
    """Draw k with probability proportional to exp(-epsilon |k|).

    Args:
        epsilon: Decay, > 0: a count of sensitivity 1 plus this noise is epsilon-private.
        randbelow: Uniform integer below its argument; replaced only by tests.

    Returns:
        The noise.

    Privacy:
        Adding it to a count that one record changes by at most 1 is epsilon-private, exactly:
        no floating-point number is drawn
        (`tests/recipes/test_discrete_laplace.py::test_frequencies_follow_the_distribution`).

    References:
        Ghosh et al. 2009 (0811.2841), definition 2.1; Canonne et al. 2020 (2004.00010),
        algorithm 1, for the exact coin. The noise is the difference of two geometric variables.
    """
    rate = Fraction(epsilon)
    return _geometric(rate, randbelow) - _geometric(rate, randbelow)


def _geometric(rate: Fraction, randbelow: _RandBelow) -> int:
    count = 0
    while _coin_exp(rate, randbelow):
        count += 1
    return count


def _coin_exp(rate: Fraction, randbelow: _RandBelow) -> bool:
    """True with probability exp(-rate): heads on every whole unit, then on the rest."""
    while rate > 1:
        if not _coin_exp_below_one(Fraction(1), randbelow):
            return False
        rate -= 1
    return _coin_exp_below_one(rate, randbelow)


def _coin_exp_below_one(rate: Fraction, randbelow: _RandBelow) -> bool:
    draws = 1
    while _coin(rate / draws, randbelow):
        draws += 1
    return draws % 2 == 1


def _coin(probability: Fraction, randbelow: _RandBelow) -> bool:
    return randbelow(probability.denominator) < probability.numerator
