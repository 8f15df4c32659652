"""The curve, mu, the attacker's success and the numerical error, against closed forms."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from dpft.accounting import (
    ConfigurationError,
    DiscreteLaplace,
    Gaussian,
    Grid,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    Selection,
    attack_tpr,
    curve,
    delta_of,
    epsilon,
    gdp_mu,
    numerical_error,
)
from dpft.accounting.profile import AttackBound, attack_bound, detection_bound

COARSE = Grid(value_discretization_interval=1e-3)
RUN = PoissonGaussian(1.0, 0.05, 50)


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-2])
def test_delta_and_epsilon_invert_each_other(accountant: str, delta: float) -> None:
    for mechanism in (RUN, Gaussian(2.0, 5)):
        spent = epsilon(mechanism, delta, accountant=accountant, grid=COARSE)
        found = delta_of(mechanism, spent, accountant=accountant, grid=COARSE)
        assert found == pytest.approx(delta, rel=1e-6)


@pytest.mark.parametrize("spent", [0.1, 1.0, 4.0])
def test_delta_of_the_gaussian_agrees_with_its_closed_form(spent: float) -> None:
    exact = ndtr(0.5 - spent) - math.exp(spent) * ndtr(-0.5 - spent)
    assert delta_of(Gaussian(1.0), spent) == pytest.approx(exact, rel=1e-6)


def test_the_curve_is_epsilon_at_each_delta() -> None:
    deltas = (1e-3, 1e-9, 1e-5)
    expected = tuple((epsilon(RUN, delta, grid=COARSE), delta) for delta in deltas)
    assert curve(RUN, deltas, grid=COARSE) == expected


@pytest.mark.parametrize("fpr", [1e-4, 1e-3, 0.1, 0.5])
@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_attacks_on_the_gaussian_succeed_as_its_trade_off_says(noise: float, fpr: float) -> None:
    exact = ndtr(ndtri(fpr) + 1 / noise)
    found = attack_tpr(Gaussian(noise), fpr, grid=COARSE)
    assert exact - 1e-9 <= found <= exact * (1 + 1e-3)


def test_attacks_on_randomised_response_succeed_as_its_trade_off_says() -> None:
    for mechanism in (DiscreteLaplace(1.0), Selection(1.0)):
        assert attack_tpr(mechanism, 1e-3) == pytest.approx(1e-3 * math.e, rel=1e-3)
        assert attack_tpr(mechanism, 0.5) == pytest.approx(1 - 0.5 / math.e, rel=1e-3)


def test_an_opaque_release_fails_with_its_delta_and_then_tells_all() -> None:
    found = attack_tpr([Opaque(0.5, 0.01)], 1e-3)
    assert found == pytest.approx(0.01 + 0.99 * 1e-3 * math.exp(0.5), rel=1e-2)


@settings(max_examples=5, deadline=None)
@given(st.floats(0.7, 5), st.floats(1e-4, 0.3), st.floats(1.1, 3))
def test_attacks_succeed_less_with_noise_and_never_less_than_by_guessing(
    noise: float, fpr: float, factor: float
) -> None:
    more = attack_tpr(PoissonGaussian(noise, 0.05, 50), fpr, grid=COARSE)
    less = attack_tpr(PoissonGaussian(noise * factor, 0.05, 50), fpr, grid=COARSE)
    assert fpr <= less <= more * (1 + 1e-3) <= 1.001


def test_a_looser_accountant_concedes_more_to_the_attacker() -> None:
    assert attack_tpr(RUN, accountant="rdp") > attack_tpr(RUN, grid=COARSE)


@given(st.floats(0, 20), st.floats(0, 0.1), st.floats(0, 1))
def test_detection_is_never_below_guessing_nor_above_certainty(
    epsilon: float, delta: float, false_alarms: float
) -> None:
    bound = detection_bound(epsilon, delta, false_alarms)
    assert false_alarms - 1e-12 <= bound <= 1.0
    assert bound <= detection_bound(epsilon + 1, delta, false_alarms) + 1e-12


def test_detection_without_a_guarantee_is_certain() -> None:
    assert detection_bound(math.inf, 1e-5, 0.01) == 1.0


def test_randomised_response_attains_the_detection_bound() -> None:
    truth = math.exp(1.0) / (1 + math.exp(1.0))
    assert detection_bound(1.0, 0.0, 1 - truth) == pytest.approx(truth, rel=1e-12)


def test_the_bound_on_attacks_is_that_of_the_curve() -> None:
    found = attack_bound([RUN], 1e-5, 1e-2, accountant="pld")
    fine = attack_tpr(RUN, 1e-2)
    assert found.from_curve
    assert fine <= found.rate <= 1.001 * fine
    assert found.rate < 0.9 * detection_bound(epsilon(RUN, 1e-5), 1e-5, 1e-2)


def test_the_bound_on_attacks_of_eight_epsilons_is_that_of_the_published_setting() -> None:
    """One part in a thousand false alarms: 5.2 %, not the 99.9 % of epsilon 9.07 alone."""
    run = PoissonGaussian(0.6, 1024 / 67349, 660)
    found = attack_bound([run], 1e-5, 1e-3, accountant="pld")
    assert found.rate == pytest.approx(0.0524, abs=1e-4)
    assert detection_bound(epsilon(run, 1e-5), 1e-5, 1e-3) > 0.99


def test_renyi_divergences_bound_attacks_by_a_curve_too() -> None:
    chosen = RepeatAndSelect(RUN, 3.0, 1.0)
    found = attack_bound([chosen], 1e-5, 1e-2, accountant="rdp")
    assert found.from_curve
    assert attack_tpr(RUN, 1e-2) < found.rate < 1


def test_what_has_no_curve_is_bounded_by_epsilon_and_delta() -> None:
    opaque = attack_bound([RUN, Opaque(0.5, 1e-6)], 1e-5, 1e-2, accountant="pld")
    spent = epsilon([RUN, Opaque(0.5, 1e-6)], 1e-5)
    assert opaque == AttackBound(detection_bound(spent, 1e-5, 1e-2), from_curve=False)
    independent = attack_bound([RUN], 1e-5, 1e-2, accountant="prv")
    spent = epsilon(RUN, 1e-5, accountant="prv")
    assert independent == AttackBound(detection_bound(spent, 1e-5, 1e-2), from_curve=False)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (4.0, 1), (6.0, 9)])
def test_mu_of_a_gaussian_is_its_own(noise: float, steps: int) -> None:
    found = gdp_mu(Gaussian(noise, steps), grid=COARSE)
    assert found == pytest.approx(math.sqrt(steps) / noise, rel=1e-3)


def test_mu_describes_a_gaussian_that_is_no_better_than_the_run() -> None:
    mu = gdp_mu(RUN, grid=COARSE)
    for delta in (1e-2, 1e-5, 1e-7):
        gaussian = epsilon(Gaussian(1 / mu), delta, grid=COARSE)
        assert gaussian >= epsilon(RUN, delta, grid=COARSE) - 2e-3


def test_mu_of_a_selection_comes_from_rdp() -> None:
    best = RepeatAndSelect(RUN, 10, 1.0)
    assert gdp_mu(best, accountant="rdp") > gdp_mu(RUN, accountant="rdp")
    with pytest.raises(ConfigurationError, match="rdp"):
        gdp_mu(best)


def test_the_numerical_error_covers_the_truth() -> None:
    for mechanism, exact in ((Gaussian(20.0, 100), 1.9930914044), (Gaussian(2.0), 1.9930914044)):
        spent = epsilon(mechanism, 1e-5, grid=COARSE)
        error = numerical_error(mechanism, 1e-5, grid=COARSE)
        assert spent - error <= exact <= spent
        assert error < 1e-2


def test_the_numerical_error_covers_a_finer_grid() -> None:
    mechanism = PoissonGaussian(0.6, 1024 / 67349, 660)
    error = numerical_error(mechanism, 1e-5, grid=COARSE)
    gain = epsilon(mechanism, 1e-5, grid=COARSE) - epsilon(mechanism, 1e-5)
    assert 0 < gain <= error < 0.01


def test_the_numerical_error_is_not_zero_where_low_noise_widens_the_grid() -> None:
    assert numerical_error(Gaussian(0.1), 1e-5) > 0


@pytest.mark.parametrize("spent", [0.0, -1.0, math.inf, math.nan, True, "1", None])
def test_an_epsilon_that_is_no_positive_number_is_refused(spent: object) -> None:
    with pytest.raises(ConfigurationError, match="epsilon="):
        delta_of(RUN, spent)  # type: ignore[arg-type]


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, math.nan, True])
def test_a_false_positive_rate_that_is_no_probability_is_refused(fpr: float) -> None:
    with pytest.raises(ConfigurationError, match="fpr="):
        attack_tpr(RUN, fpr)


def test_a_delta_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="delta="):
        curve(RUN, [1e-5, 1.0])


def test_an_accountant_without_a_delta_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="accountant=prv"):
        delta_of(RUN, 1.0, accountant="prv")


def test_what_is_no_mechanism_is_refused() -> None:
    nothing: list[Mechanism] = []
    with pytest.raises(ConfigurationError, match="mechanism"):
        attack_tpr(nothing)


def test_a_false_positive_rate_near_zero_has_a_bound() -> None:
    assert 1e-320 <= attack_tpr(Gaussian(1.0), 1e-320) < 1e-3
