import numpy as np
import pytest

from dpft.accounting import Gaussian, epsilon
from dpft.accounting.auditing import Game, Played, gaussian_epsilon, rates_epsilon

THRESHOLDS = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def played(mu: float, canaries: int = 4000, seed: int = 0) -> Played:
    included = Game(canaries, seed).coins()
    noise = np.random.default_rng(seed + 1).standard_normal(canaries)
    return Played(noise + mu * included, included)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_a_gaussian_is_found_from_below(mu: float) -> None:
    true = epsilon(Gaussian(1 / mu), 1e-5)
    found = [gaussian_epsilon(played(mu, seed=seed), THRESHOLDS, 1e-5) for seed in range(10)]

    assert max(found) <= true
    assert np.median(found) > 0.6 * true


def test_a_gaussian_of_known_rates_has_its_closed_form() -> None:
    from dpft.accounting.auditing.trade_off import _epsilon_of_gaussian

    for noise in (0.4, 1.0, 5.0):
        true = epsilon(Gaussian(noise), 1e-6)
        assert _epsilon_of_gaussian(1 / noise, 1e-6) == pytest.approx(true, rel=1e-3)
    assert _epsilon_of_gaussian(1e-9, 1e-6) == 0


@pytest.mark.parametrize("seed", range(10))
def test_rates_bound_from_below_without_a_shape(seed: int) -> None:
    included = Game(4000, seed).coins()
    lies = np.random.default_rng(500 + seed).random(4000) < 1 / (1 + np.exp(2.0))
    answered = Played((included ^ lies).astype(float), included)

    assert 1.5 < rates_epsilon(answered, (0.5,), 1e-9, confidence=0.9999) <= 2.0


def test_no_noise_is_far_above_any_claim() -> None:
    perfect = played(1e6)

    assert gaussian_epsilon(perfect, THRESHOLDS, 1e-5) > 25
    assert rates_epsilon(perfect, THRESHOLDS, 1e-5) > 5


def test_nothing_is_found_where_nothing_is_released() -> None:
    assert gaussian_epsilon(played(0.0), THRESHOLDS, 1e-5) == 0
    assert rates_epsilon(played(0.0), THRESHOLDS, 1e-5) == 0
    assert rates_epsilon(played(1.0), (), 1e-5) == 0
