import math
from collections import Counter
from random import Random

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.rdp import RdpAccountant, rdp_privacy_accountant
from scipy.stats import norm

from dpft.accounting import (
    Composed,
    ConfigurationError,
    Laplace,
    PoissonGaussian,
    PrivacyTarget,
    RepeatAndSelect,
    epsilon,
)
from dpft.accounting.mechanisms import POISSON
from dpft.accounting.selection import TrialCount, calibrate_trial

DRAWS = 3000
COUNTS = [(1, 0), (1, 7), (4, 0), (6, 0.5), (5, 1), (4, 2.5), (1.5, 3), (0.6 + 2, POISSON)]
A = PoissonGaussian(0.6, 1024 / 67_349, 660)  # anchor A of the accountants' tests
A_GENTLE = PoissonGaussian(1.0, 1024 / 67_349, 660)


@pytest.mark.parametrize(("mean", "shape"), COUNTS)
def test_frequencies_follow_the_distribution(mean: float, shape: float | str) -> None:
    count, randbelow = TrialCount(mean, shape), Random(20261121).randrange
    drawn = Counter(count.draw(randbelow) for _ in range(DRAWS))
    for value in range(20):
        expected = count.probability(value)
        spread = math.sqrt(expected * (1 - expected) / DRAWS)
        assert abs(drawn[value] / DRAWS - expected) <= 4 * spread + 1 / DRAWS, value


@pytest.mark.parametrize(("mean", "shape"), COUNTS)
def test_probabilities_sum_to_one_and_have_the_stated_mean(mean: float, shape: float | str) -> None:
    count = TrialCount(mean, shape)
    probabilities = [count.probability(value) for value in range(400)]
    assert sum(probabilities) == pytest.approx(1, abs=1e-9)
    assert sum(k * p for k, p in enumerate(probabilities)) == pytest.approx(mean, rel=1e-7)


def test_probabilities_are_those_of_the_named_distributions() -> None:
    geometric = TrialCount(4, shape=1)
    assert geometric.probability(3) == pytest.approx(0.75**2 * 0.25, rel=1e-6)
    logarithmic = TrialCount(4, shape=0)
    ratio = logarithmic.probability(2) / logarithmic.probability(1)
    assert logarithmic.probability(3) / logarithmic.probability(1) == pytest.approx(
        4 / 3 * ratio**2, rel=1e-9
    )
    poisson = TrialCount(2, POISSON)
    assert poisson.probability(0) == pytest.approx(math.exp(-2), rel=1e-12)


@pytest.mark.parametrize("shape", [0, 1e-320, 0.3, 1, 4])
@pytest.mark.parametrize("mean", [1.01, 10, 5000])
def test_what_is_drawn_stops_no_later_than_what_is_accounted(mean: float, shape: float) -> None:
    drawn = TrialCount(mean, shape)._gamma(shape)
    theirs = shape if shape > 1e-14 else 0.0  # they divide by the shape
    accounted = rdp_privacy_accountant._gamma_truncated_negative_binomial(theirs, mean)
    assert accounted <= drawn <= min(1, accounted * (1 + 1e-7))
    assert rdp_privacy_accountant._truncated_negative_binomial_mean(drawn, theirs) <= mean


def test_only_poisson_may_give_no_trial() -> None:
    assert TrialCount(1, POISSON).may_be_zero
    randbelow = Random(1).randrange
    assert 0 in {TrialCount(1, POISSON).draw(randbelow) for _ in range(40)}
    assert not TrialCount(1.5, 2).may_be_zero
    assert TrialCount(1.5, 2).probability(0) == 0


def test_draws_differ_from_call_to_call() -> None:
    assert len({TrialCount(1000, 1).draw() for _ in range(8)}) > 2  # fails by chance below 1e-15


def test_a_quantile_is_the_first_count_that_reaches_its_probability() -> None:
    count = TrialCount(10, 1)
    median = count.quantile(0.5)
    up_to = [sum(count.probability(k) for k in range(end + 1)) for end in (median - 1, median)]
    assert up_to[0] < 0.5 <= up_to[1]


@pytest.mark.parametrize(
    ("mean", "shape", "says"),
    [
        (0.9, 1, "mean=0.9"),
        (math.nan, 1, "mean=nan"),
        (math.inf, 1, "mean=inf"),
        (True, 1, "mean=True"),
        (3, -0.1, "shape=-0.1"),
        (3, math.inf, "shape=inf"),
        (3, "poison", "shape='poison'"),
        (3, None, "shape=None"),
    ],
)
def test_a_distribution_out_of_range_is_refused(mean: float, shape: float | str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        TrialCount(mean, shape)


@pytest.mark.parametrize(
    ("mean", "shape", "figure"),
    [(5, 1, 14.7), (10, 1, 16.1), (50, 1, 19.1), (10, 0, 14.9), (50, 0, 17.0), (10, POISSON, 18.4)],
)
def test_the_cost_of_selection_on_anchor_a(mean: float, shape: float | str, figure: float) -> None:
    event = TrialCount(mean, shape).event(A)
    assert epsilon(event, 1e-5, accountant="rdp") == pytest.approx(figure, abs=0.06)


@pytest.mark.parametrize(("mean", "shape"), [(10, 0), (10, 1), (50, 0.5), (10, POISSON)])
def test_the_cost_agrees_with_dp_accounting(mean: float, shape: float | str) -> None:
    theirs = RdpAccountant([1 + x / 10 for x in range(1, 100)] + list(range(11, 65)))
    eta = math.inf if shape == POISSON else float(shape)
    theirs.compose(RepeatAndSelectDpEvent(A_GENTLE.event(), mean, eta))
    ours = epsilon(TrialCount(mean, shape).event(A_GENTLE), 1e-5, accountant="rdp")
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-2)
    assert ours <= theirs.get_epsilon(1e-5) * (1 + 1e-6)  # more orders, never a larger bound


def test_a_single_trial_costs_what_the_trial_costs() -> None:
    event = TrialCount(1, shape=1).event(A_GENTLE)
    alone = epsilon(A_GENTLE, 1e-5, accountant="rdp")
    assert alone <= epsilon(event, 1e-5, accountant="rdp") <= 1.02 * alone  # orders end at 1.1


@pytest.mark.parametrize("accountant", ["pld", "prv"])
def test_other_accountants_refuse_a_selection_and_name_rdp(accountant: str) -> None:
    with pytest.raises(ConfigurationError, match="rdp"):
        epsilon(TrialCount(5).event(A), 1e-5, accountant=accountant)


@pytest.mark.parametrize(("mean", "shape"), [(8, 0), (8, 1), (3, POISSON)])
def test_selecting_the_best_stays_below_the_bound(mean: float, shape: float | str) -> None:
    """A toy trial releases N(0, s^2) or N(1, s^2) and is its own score; the divergence is exact."""
    std, delta = 2.0, 1e-3
    count = TrialCount(mean, shape)
    trial = PoissonGaussian(std, 1.0, 1)
    claimed = epsilon(count.event(trial), delta, accountant="rdp")
    assert largest_delta(count, std, claimed) <= delta
    alone = epsilon(trial, delta)
    assert largest_delta(count, std, alone) > delta  # one trial's epsilon is not what is spent


def largest_delta(count: TrialCount, std: float, at: float) -> float:
    """Integrate the hockey-stick divergence between the best of K draws on two neighbours."""
    grid = np.linspace(-10 * std, 1 + 10 * std, 20_001)
    here, there = density_of_best(count, grid / std), density_of_best(count, (grid - 1) / std)
    width = (grid[1] - grid[0]) / std
    pairs = ((here, there), (there, here))
    return max(float(np.maximum(p - math.exp(at) * q, 0).sum() * width) for p, q in pairs)


def density_of_best(count: TrialCount, x: np.ndarray) -> np.ndarray:
    below, total = norm.cdf(x), np.zeros_like(x)
    for k in range(1, 400):
        total += count.probability(k) * k * below ** (k - 1)
    density: np.ndarray = total * norm.pdf(x)
    return density


def trial_with(noise_multiplier: float) -> PoissonGaussian:
    return PoissonGaussian(noise_multiplier, 0.02, 300)


def test_a_calibrated_selection_meets_its_target() -> None:
    target, count = PrivacyTarget(6.0, 1e-5, "rdp"), TrialCount(8)
    noise = calibrate_trial(target, count, trial_with)
    assert epsilon(count.event(trial_with(noise)), 1e-5, accountant="rdp") <= 6.0
    less = epsilon(count.event(trial_with(noise - 2e-4)), 1e-5, accountant="rdp")
    assert less > 6.0
    assert epsilon(trial_with(noise), 1e-5, accountant="rdp") < 4.5


def test_a_target_that_no_noise_reaches_is_refused() -> None:
    def with_a_score(noise_multiplier: float) -> Composed:
        return Composed((trial_with(noise_multiplier), Laplace(0.5)))

    with pytest.raises(ConfigurationError, match=r"epsilon=1\.0 to be reachable"):
        calibrate_trial(PrivacyTarget(1.0, 1e-5, "rdp"), TrialCount(8), with_a_score)


def test_a_target_of_another_accountant_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rdp"):
        calibrate_trial(PrivacyTarget(6.0, 1e-5), TrialCount(8), trial_with)


def test_the_event_keeps_what_was_asked_for() -> None:
    event = TrialCount(8, 0.5).event(A)
    assert isinstance(event, RepeatAndSelect)
    assert (event.mean, event.shape, event.adjacency) == (8.0, 0.5, A.adjacency)


def test_dp_accounting_bounds_a_selection_of_gaussians_as_the_paper_does() -> None:
    """The closed form of corollary 4: the test of the tests' own yardstick."""
    rho, gamma = 0.01, 0.1
    orders = [math.sqrt(-math.log(gamma) / rho), 1 + math.sqrt(math.log(1 / gamma) / rho)]
    theirs = RdpAccountant(orders)
    theirs.compose(RepeatAndSelectDpEvent(GaussianDpEvent(math.sqrt(0.5 / rho)), 1 / gamma, 1))
    expected = 6 * math.sqrt(rho * math.log(1 / gamma)) - rho
    assert theirs._rdp[1] == pytest.approx(expected, rel=1e-9)
