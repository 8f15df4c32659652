import numpy as np
import pytest
from scipy.stats import binom

from dpft.accounting import ConfigurationError
from dpft.accounting.auditing import Game, Played, one_run_ceiling, one_run_epsilon


def played(mu: float, canaries: int = 1000, seed: int = 0) -> Played:
    """Return a game against a Gaussian whose scores differ by mu standard deviations."""
    included = Game(canaries, seed).coins()
    noise = np.random.default_rng(seed + 1).standard_normal(canaries)
    return Played(noise + mu * included, included)


@pytest.mark.parametrize("canaries", [2, 100, 1000])
@pytest.mark.parametrize("delta", [0.0, 1e-8])
def test_perfect_guesses_reach_the_ceiling(canaries: int, delta: float) -> None:
    perfect = played(1e6, canaries)
    halves = min(perfect.included.sum(), (~perfect.included).sum())
    reached, ceiling = one_run_epsilon(perfect, delta), one_run_ceiling(canaries, delta)

    assert reached <= ceiling
    assert reached == ceiling or halves < canaries // 2


def test_the_ceiling_grows_with_the_canaries() -> None:
    ceilings = [one_run_ceiling(canaries, 1e-9) for canaries in (10, 100, 1000, 10_000)]

    assert ceilings == sorted(ceilings)
    assert ceilings[0] < 1 < ceilings[1]


@pytest.mark.parametrize(
    ("canaries", "delta", "epsilon"),
    [(100, 1e-5, 3.5), (1000, 1e-5, 5.8), (10_000, 1e-5, 7.8), (10_000, 1e-8, 8.1)],
)
def test_published_ceilings_of_a_single_threshold_are_met(
    canaries: int, delta: float, epsilon: float
) -> None:
    from dpft.accounting.auditing.one_run import _refuted

    assert _refuted(canaries, canaries, canaries, delta, 0.05) == pytest.approx(epsilon, abs=0.05)


def test_without_delta_the_bound_is_that_of_a_binomial() -> None:
    from dpft.accounting.auditing.one_run import _refuted

    epsilon = _refuted(1000, 200, 170, 0.0, 0.05)
    tossed = binom(200, 1 / (1 + np.exp(-epsilon)))

    assert tossed.sf(169) == pytest.approx(0.05, rel=1e-4)


def test_delta_only_lowers_the_bound() -> None:
    game = played(3.0)
    found = [one_run_epsilon(game, delta) for delta in (0.0, 1e-9, 1e-6, 1e-4, 1e-2)]

    assert found == sorted(found, reverse=True)
    assert found[0] > 1.5
    assert found[-1] == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_private_mechanism_is_not_refuted(seed: int) -> None:
    randomised = Game(1000, seed).coins()
    lies = np.random.default_rng(1000 + seed).random(1000) < 1 / (1 + np.exp(1.0))

    told = Played((randomised ^ lies).astype(float), randomised)
    bound = one_run_epsilon(told, 0.0, confidence=0.9999)

    assert bound < 1.0


def test_guesses_at_random_refute_nothing() -> None:
    assert one_run_epsilon(played(0.0), 1e-6) == 0


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="without NaN"):
        Played(np.array([1.0, np.nan]), np.array([True, False]))


def test_scores_and_coins_must_belong_together() -> None:
    with pytest.raises(ConfigurationError, match="one for each coin"):
        Played(np.zeros(3), np.array([True, False]))


def test_one_canary_is_no_game() -> None:
    with pytest.raises(ConfigurationError, match="canaries=1"):
        Game(1)


@pytest.mark.parametrize(("delta", "confidence"), [(-1e-3, 0.95), (1.0, 0.95), (1e-5, 1.0)])
def test_numbers_out_of_range_are_refused(delta: float, confidence: float) -> None:
    with pytest.raises(ConfigurationError, match="Expected"):
        one_run_epsilon(played(1.0, 10), delta, confidence=confidence)
