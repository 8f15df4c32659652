"""Sums of losses by one transform, against dp-accounting's composition in pairs."""

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as theirs
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

from dpft.accounting.convolution import convolved, epsilon_at
from dpft.accounting.mixture import mixture_distribution

WIDTH = 1e-2


def sampled(noise: float, rate: float) -> PrivacyLossDistribution:
    return mixture_distribution(noise, np.array([1 - rate, rate]), WIDTH)


def factors() -> list[tuple[PrivacyLossDistribution, int]]:
    laplace = theirs.from_laplace_mechanism(3.0, value_discretization_interval=WIDTH)
    return [(sampled(1.0, 0.05), 40), (sampled(0.7, 0.01), 100), (laplace, 1)]


def in_pairs() -> PrivacyLossDistribution:
    composed = theirs.identity(WIDTH)
    for losses, times in factors():
        composed = composed.compose(losses.self_compose(times))
    return composed


def test_the_convolution_agrees_with_dp_accounting() -> None:
    ours, other = convolved(factors(), WIDTH), in_pairs()
    for spent in (0.0, 0.5, 2.0, 5.0, 9.0):
        for side in ("_pmf_remove", "_pmf_add"):
            expected = getattr(other, side).get_delta_for_epsilon(spent)
            found = getattr(ours, side).get_delta_for_epsilon(spent)
            assert found == pytest.approx(expected, rel=1e-9, abs=2e-14)


@pytest.mark.parametrize("delta", [0.5, 1e-2, 1e-5, 1e-11])
def test_epsilon_of_losses_agrees_with_dp_accounting(delta: float) -> None:
    losses = convolved(factors(), WIDTH)
    expected = losses.get_epsilon_for_delta(delta)
    assert epsilon_at(losses, delta) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_epsilon_is_infinite_below_the_mass_of_infinite_losses() -> None:
    losses = convolved(factors(), WIDTH)
    assert epsilon_at(losses, 0.9 * losses._pmf_remove._infinity_mass) == np.inf


def test_what_is_cut_counts_as_an_infinite_loss() -> None:
    whole = convolved(factors(), WIDTH)
    for side in (whole._pmf_remove, whole._pmf_add):
        assert side._infinity_mass >= 1e-15
        assert side._probs.sum() + side._infinity_mass >= 1 - 1e-13
    (one, times), *_ = factors()
    longest = one._pmf_remove.to_dense_pmf().size * times
    assert convolved([(one, times)], WIDTH)._pmf_remove.size < longest / 10


def test_losses_with_a_heavy_tail_are_cut_too() -> None:
    """The order that is best for a Gaussian would keep 0.5 million points here."""
    losses = sampled(0.25, 0.001)
    assert losses._pmf_remove.to_dense_pmf().size * 200 > 700_000
    assert convolved([(losses, 200)], WIDTH)._pmf_remove.size < 10_000


def test_one_release_is_left_as_it_is() -> None:
    losses = sampled(1.0, 0.05)
    assert convolved([(losses, 1)], WIDTH) is losses
