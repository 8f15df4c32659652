"""Integer Gaussian noise, drawn exactly from secret bits, for many coordinates at a time.

Every decision is an integer compared with an integer: no exponential, no logarithm and no fraction
of floating-point arithmetic. No torch in here.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dpft.errors import ConfigurationError
from dpft.randomness import Stream

__all__ = ["discrete_gaussian"]

_Integers = npt.NDArray[np.int64]
_Unsigned = npt.NDArray[np.uint64]
_Coins = npt.NDArray[np.bool_]

_LARGEST = 2**63 - 1
# A proposal of more units of the scale than this is drawn again; the law has less than exp(-8000)
# of its mass out there, and squares of proposals have to fit 63 bits.
_MOST_UNITS = 128
_MOST_DRAWS = 1024  # of one coin; the chance that one more is needed is 1 / 1024!
_CHUNK = 2**18


def discrete_gaussian(variance: Fraction, count: int, stream: Stream) -> _Integers:
    r"""Draw independent integers k with probability proportional to exp(-k^2 / (2 variance)).

    A proposal comes from the discrete Laplace distribution with scale t, an integer near the
    standard deviation, and is taken with probability
    :math:`\exp(-(|k| - \sigma^2/t)^2 / (2 \sigma^2))`; any t gives the same law.

    Args:
        variance: The parameter sigma^2 > 0, exact. Up to 2**48 if it is the square of an integer,
            else less: intermediate integers have to fit 63 bits.
        count: How many to draw, >= 0.
        stream: Secret bits.

    Returns:
        Noise [count].

    Raises:
        ConfigurationError: If the variance is not positive, or too large or too long a fraction.

    Privacy:
        Exact: coins with probability exp(-a/b) are made of uniform integers, so that low-order bits
        say nothing (`test_frequencies_follow_the_exact_probabilities`,
        `test_a_coin_falls_with_the_exact_exponential_probability`). How long it takes depends on
        the noise.

    References:
        Canonne, Kamath and Steinke 2020 (2004.00010), algorithms 1 to 3.

    Example:
        >>> from dpft.randomness import PinnedRandomness, Purpose
        >>> stream = PinnedRandomness(1).stream(Purpose.NOISE, 0)
        >>> discrete_gaussian(Fraction(4), 3, stream).shape
        (3,)
    """
    law = _Law.of(variance)
    parts = [np.empty(0, dtype=np.int64)]
    missing = count
    while missing > 0:
        drawn = _accepted(law, min(_CHUNK, 2 * missing + 16), stream)[:missing]
        missing -= drawn.size
        parts.append(drawn)
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class _Law:
    """Scale t of the proposals, and (q |k| - p)^2 a / b, the exponent of their acceptance."""

    scale: int
    p: int
    q: int
    a: int
    b: int

    @classmethod
    def of(cls, variance: Fraction) -> "_Law":
        if variance <= 0:
            raise ConfigurationError(
                f"Expected variance={variance} > 0. There is no noise without it. Raise the noise "
                "multiplier."
            )
        root = math.isqrt(variance.numerator // variance.denominator)
        scale = root if root * root == variance else root + 1
        shift = variance / scale
        factor = 1 / (2 * variance * shift.denominator**2)
        law = cls(scale, shift.numerator, shift.denominator, factor.numerator, factor.denominator)
        law.refuse_overflow(variance)
        return law

    def refuse_overflow(self, variance: Fraction) -> None:
        farthest = self.q * self.scale * _MOST_UNITS + self.p
        largest = max(farthest**2 * self.a, _MOST_DRAWS * self.b, _MOST_DRAWS * self.scale)
        if largest > _LARGEST:
            raise ConfigurationError(
                f"Expected variance={variance} to have a short numerator and denominator. Integers "
                "of 63 bits hold what exact noise is decided by. Take the square of an integer up "
                "to 2**24."
            )

    def exponents(self, proposals: _Integers) -> _Unsigned:
        """Return the numerators of the exponents; their denominator is b."""
        distances = self.q * np.abs(proposals) - self.p
        numerators: _Unsigned = (distances * distances * self.a).astype(np.uint64)
        return numerators


def _accepted(law: _Law, count: int, stream: Stream) -> _Integers:
    """Return the proposals that are taken, of about `count`: algorithm 3."""
    proposals = _proposed(law.scale, count, stream)
    return proposals[_exponential_coins(law.exponents(proposals), law.b, stream)]


def _proposed(scale: int, count: int, stream: Stream) -> _Integers:
    """Return integers k with probability proportional to exp(-|k| / scale): algorithm 2."""
    offsets = _below(scale, count, stream)
    offsets = offsets[_short_coins(offsets, scale, stream)]
    units = _heads_in_a_row(offsets.size, stream)
    negative = _below(2, offsets.size, stream) == 1
    sizes = offsets.astype(np.int64) + scale * np.minimum(units, _MOST_UNITS)
    taken = (units < _MOST_UNITS) & ~(negative & (sizes == 0))  # zero would count twice
    signed: _Integers = np.where(negative, -sizes, sizes)[taken]
    return signed


def _heads_in_a_row(count: int, stream: Stream) -> _Integers:
    """Return how often a coin of probability exp(-1) falls heads before it falls tails."""
    heads = np.zeros(count, dtype=np.int64)
    running = np.arange(count)
    while running.size:
        running = running[_short_coins(np.ones(running.size, np.uint64), 1, stream)]
        heads[running] += 1
    return heads


def _exponential_coins(numerators: _Unsigned, denominator: int, stream: Stream) -> _Coins:
    """Return True with probability exp(-numerator / denominator), each >= 0."""
    wholes, rests = np.divmod(numerators, np.uint64(denominator))
    heads = _short_coins(rests, denominator, stream)
    running = np.flatnonzero(heads & (wholes > 0))
    while running.size:  # once more for every whole unit of the exponent
        fell = _short_coins(np.ones(running.size, np.uint64), 1, stream)
        heads[running[~fell]] = False
        wholes[running] -= np.uint64(1)
        running = running[fell & (wholes[running] > 0)]
    return heads


def _short_coins(numerators: _Unsigned, denominator: int, stream: Stream) -> _Coins:
    """Return True with probability exp(-numerator / denominator), each in [0, 1]: algorithm 1.

    Coins of probability numerator / (k denominator), k = 1, 2, ..., are thrown until tails; the
    result is whether the last k is odd.
    """
    result = np.empty(numerators.size, dtype=np.bool_)
    running = np.arange(numerators.size)
    draws = 1
    while running.size:
        assert draws <= _MOST_DRAWS, "the chance is 1 / 1024!"
        heads = _below(draws * denominator, running.size, stream) < numerators[running]
        result[running[~heads]] = draws % 2 == 1
        running = running[heads]
        draws += 1
    return result


def _below(bound: int, count: int, stream: Stream) -> _Unsigned:
    """Return uniform integers in [0, bound): words beyond the last whole multiple are redrawn."""
    last = np.uint64(2**64 - 1 - 2**64 % bound)
    words = stream.integers(count)
    while (beyond := words > last).any():
        words = words.copy()
        words[beyond] = stream.integers(int(beyond.sum()))
    return words % np.uint64(bound)
