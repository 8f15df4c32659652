"""The losses of users, against dp-accounting's own discretisation of the same mixture."""

import numpy as np
import pytest
from scipy.stats import binom

from dpft.accounting.mixture import mixture_distribution

CASES = [(2, 0.0152, 0.6), (4, 0.3, 3.0), (3, 0.9, 2.0), (1, 0.05, 1.0)]


@pytest.mark.parametrize(("records", "rate", "noise"), CASES)
def test_the_mixture_agrees_with_dp_accounting(records: int, rate: float, noise: float) -> None:
    from dp_accounting.pld import privacy_loss_distribution

    weights = binom.pmf(np.arange(records + 1), records, rate)
    ours = mixture_distribution(noise, weights, 0.02)
    theirs = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        noise, list(range(records + 1)), weights, value_discretization_interval=0.02
    )
    for count in (1, 20):
        for delta in (1e-3, 1e-7):
            expected = theirs.self_compose(count).get_epsilon_for_delta(delta)
            found = ours.self_compose(count).get_epsilon_for_delta(delta)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_each_direction_agrees_with_dp_accounting() -> None:
    from dp_accounting.pld import privacy_loss_distribution

    weights = binom.pmf(np.arange(4), 3, 0.4)
    ours = mixture_distribution(2.0, weights, 0.02)
    theirs = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        2.0, [0, 1, 2, 3], weights, value_discretization_interval=0.02
    )
    for spent in (-0.5, 0.0, 0.3, 1.5):
        for side in ("_pmf_remove", "_pmf_add"):
            expected = getattr(theirs, side).get_delta_for_epsilon(spent)
            assert getattr(ours, side).get_delta_for_epsilon(spent) == pytest.approx(
                expected, rel=1e-4, abs=1e-9
            )


def test_no_mass_is_lost() -> None:
    losses = mixture_distribution(0.6, binom.pmf(np.arange(6), 5, 0.0152), 1e-2)
    for side in (losses._pmf_remove, losses._pmf_add):
        assert side._probs.min() >= 0
        assert side._probs.sum() + side._infinity_mass == pytest.approx(1, abs=1e-12)


def test_a_finer_grid_never_gives_a_larger_epsilon() -> None:
    weights = binom.pmf(np.arange(4), 3, 0.1)
    spent = [
        mixture_distribution(1.0, weights, width).self_compose(10).get_epsilon_for_delta(1e-5)
        for width in (1e-3, 1e-2, 1e-1)
    ]
    assert spent == sorted(spent)
    assert spent[1] == pytest.approx(spent[0], rel=1e-2)


def test_many_records_of_one_user_are_accounted_for() -> None:
    """Most of 200 shifts are rarer than the mass that is cut."""
    losses = mixture_distribution(0.6, binom.pmf(np.arange(201), 200, 2e-4), 1e-2)
    assert 5.9 < losses.get_epsilon_for_delta(1e-5) < 6.0
