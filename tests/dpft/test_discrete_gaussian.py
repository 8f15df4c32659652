"""Integer noise follows its law exactly, for narrow and for wide ones."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from dpft.discrete_gaussian import _below, _exponential_coins, _Law, discrete_gaussian
from dpft.errors import ConfigurationError
from dpft.randomness import PinnedRandomness, Purpose, Stream

MANY = 60_000
WIDE = Fraction(2**48)  # the variance in runs
LEVEL = 1e-4


def stream(seed: int = 1) -> Stream:
    return PinnedRandomness(seed).stream(Purpose.NOISE, 0)


@pytest.mark.parametrize(
    "variance",
    [Fraction(1, 9), Fraction(1, 4), Fraction(1), Fraction(9, 4), Fraction(100)],
    ids=str,
)
def test_frequencies_follow_the_exact_probabilities(variance: Fraction) -> None:
    drawn = discrete_gaussian(variance, MANY, stream())
    support = np.arange(-400, 401)
    exact = np.exp(-(support**2) / (2 * float(variance)))
    expected = MANY * exact / exact.sum()
    seen = np.array([(drawn == k).sum() for k in support])
    common = expected >= 5
    rest = max(MANY - expected[common].sum(), 1e-9)
    others = MANY - seen[common].sum()
    assert others <= rest + 6 * math.sqrt(rest) + 3
    scaled = expected[common] * seen[common].sum() / expected[common].sum()
    assert stats.chisquare(seen[common], scaled).pvalue > LEVEL


def test_wide_noise_has_the_planned_spread_and_uniform_low_order_bits() -> None:
    drawn = discrete_gaussian(WIDE, MANY, stream(2))
    assert drawn.var() / float(WIDE) == pytest.approx(1, abs=5 * math.sqrt(2 / MANY))
    assert stats.kstest(drawn / 2**24, "norm").pvalue > LEVEL
    assert stats.chisquare(np.bincount(drawn % 64, minlength=64)).pvalue > LEVEL
    assert stats.binomtest(int((drawn > 0).sum()), MANY).pvalue > LEVEL


@pytest.mark.parametrize("exponent", [Fraction(0), Fraction(1, 3), Fraction(1), Fraction(11, 4)])
def test_a_coin_falls_with_the_exact_exponential_probability(exponent: Fraction) -> None:
    numerators = np.full(MANY, exponent.numerator, dtype=np.uint64)
    heads = int(_exponential_coins(numerators, exponent.denominator, stream(3)).sum())
    assert stats.binomtest(heads, MANY, math.exp(-exponent)).pvalue > LEVEL


def test_coins_of_one_throw_fall_each_by_its_own_exponent() -> None:
    numerators = np.arange(MANY, dtype=np.uint64) % np.uint64(5)
    heads = _exponential_coins(numerators, 2, stream(4))
    for numerator in range(5):
        chosen = heads[numerators == numerator]
        result = stats.binomtest(int(chosen.sum()), chosen.size, math.exp(-numerator / 2))
        assert result.pvalue > LEVEL


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(9, 4), Fraction(7), WIDE], ids=str)
def test_the_exponent_of_acceptance_is_the_fraction_of_the_proof(variance: Fraction) -> None:
    law = _Law.of(variance)
    proposals = np.array([0, 1, -3, 5 * law.scale, -127 * law.scale], dtype=np.int64)
    for k, numerator in zip(proposals.tolist(), law.exponents(proposals).tolist(), strict=True):
        shift = variance / law.scale
        assert Fraction(numerator, law.b) == (abs(k) - shift) ** 2 / (2 * variance)


def test_uniform_integers_are_not_skewed_by_a_bound_that_does_not_divide_the_words() -> None:
    bound = 3 * 2**62  # a quarter of all words lie beyond the last whole multiple
    drawn = _below(bound, MANY, stream(5))
    assert int(drawn.max()) < bound
    thirds = np.bincount((drawn // np.uint64(2**62)).astype(np.int64), minlength=3)
    assert stats.chisquare(thirds).pvalue > LEVEL


@pytest.mark.parametrize("count", [0, 1, 7, 300_001])
def test_as_many_are_drawn_as_asked_for(count: int) -> None:
    assert discrete_gaussian(WIDE, count, stream(6)).shape == (count,)


def test_successive_draws_and_other_keys_differ() -> None:
    source = stream(7)
    first, second = (discrete_gaussian(WIDE, 50, source) for _ in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, discrete_gaussian(WIDE, 50, stream(8)))
    assert np.array_equal(first, discrete_gaussian(WIDE, 50, stream(7)))


@pytest.mark.parametrize(
    "variance", [Fraction(0), Fraction(-1), Fraction(2**50), Fraction(10**9 + 7, 10**9)], ids=str
)
def test_a_variance_that_cannot_be_drawn_exactly_is_refused(variance: Fraction) -> None:
    with pytest.raises(ConfigurationError, match="variance="):
        discrete_gaussian(variance, 1, stream())
