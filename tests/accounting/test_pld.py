"""Every mechanism's epsilon against closed forms, published tables and the laws of accounting."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from dp_accounting.pld.pld_pmf import DensePLDPmf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr
from scipy.stats import binom

from dpft.accounting import (
    AccountantError,
    Adjacency,
    Composed,
    ConfigurationError,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Grid,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    PrivacyTarget,
    RepeatAndSelect,
    Selection,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
    calibrate,
    delta_of,
    epsilon,
    first_steps,
)
from dpft.accounting.accountants import composition
from dpft.accounting.pld import loss_distribution

COARSE = Grid(value_discretization_interval=1e-3)
FEW = settings(max_examples=5, deadline=None)
RATE = 1024 / 67349


def gaussian_epsilon(noise: float, delta: float) -> float:
    """Balle and Wang 2018 (1805.06530), theorem 8, solved for epsilon."""

    def excess(spent: float) -> float:
        shift, width = spent * noise, 1 / (2 * noise)
        return float(ndtr(width - shift) - math.exp(spent + log_ndtr(-width - shift))) - delta

    return float(brentq(excess, 0, 200, xtol=1e-12))


def randomised_response_epsilon(each: float, times: int, delta: float) -> float:
    """Solve the n-fold composition of randomised response: a sum over how many answers are true."""
    truth = 1 / (1 + math.exp(-each))

    def excess(spent: float) -> float:
        losses = [(2 * right - times) * each for right in range(times + 1)]
        weights = binom.pmf(range(times + 1), times, truth)
        terms = [
            float(weight) * max(0.0, -math.expm1(spent - loss))
            for weight, loss in zip(weights, losses, strict=True)
        ]
        return math.fsum(terms) - delta

    return float(brentq(excess, 0, times * each, xtol=1e-12))


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (20.0, 100), (4.0, 3)])
def test_the_gaussian_agrees_with_its_closed_form(noise: float, steps: int) -> None:
    exact = gaussian_epsilon(noise / math.sqrt(steps), 1e-5)
    assert epsilon(Gaussian(noise, steps), 1e-5) == pytest.approx(exact, abs=1e-6)
    replaced = gaussian_epsilon(noise / 2 / math.sqrt(steps), 1e-5)
    mechanism = Gaussian(noise, steps, Adjacency.REPLACE_ONE)
    assert epsilon(mechanism, 1e-5) == pytest.approx(replaced, abs=1e-6)


def test_fixed_batches_cost_as_many_full_releases() -> None:
    mechanism = FixedBatchGaussian(0.6, 660, 10)
    spent = epsilon(mechanism, 1e-5)
    assert spent == pytest.approx(gaussian_epsilon(0.6 / math.sqrt(10), 1e-5), rel=1e-4)
    assert spent == pytest.approx(35.6, abs=0.05)
    assert spent == epsilon(Gaussian(0.6, 10, Adjacency.ZERO_OUT), 1e-5)


@pytest.mark.parametrize(
    ("largest", "published", "digit"),
    [(1024, 57.1, 0.1), (1100, 17.3, 0.1), (1150, 9.70, 0.01), (1200, 9.0674, 1e-4)],
)
def test_truncated_batches_agree_with_the_published_table(
    largest: int, published: float, digit: float
) -> None:
    mechanism = TruncatedPoissonGaussian(0.6, RATE, 660, 67349, largest)
    spent = epsilon(mechanism, 1e-5, grid=COARSE)
    assert spent == pytest.approx(published, rel=1e-6, abs=0.51 * digit)


def test_a_cut_far_above_the_mean_is_free() -> None:
    cut = TruncatedPoissonGaussian(0.6, RATE, 660, 67349, 1300)
    whole = PoissonGaussian(0.6, RATE, 660, Adjacency.ZERO_OUT)
    spent = epsilon(cut, 1e-5, grid=COARSE)
    assert spent == pytest.approx(epsilon(whole, 1e-5, grid=COARSE), rel=1e-6)


@pytest.mark.parametrize("delta", [1e-2, 1e-1])
def test_laplace_agrees_with_its_closed_form(delta: float) -> None:
    """One release: delta = 1 - exp((epsilon - 1/scale) / 2)."""
    spent = epsilon(Laplace(0.5), delta)
    assert spent == pytest.approx(2.0 + 2 * math.log1p(-delta), abs=1e-6)


def test_laplace_releases_cost_less_than_randomised_response() -> None:
    each, worst = epsilon(Laplace(2.0, 40), 1e-5), randomised_response_epsilon(0.5, 40, 1e-5)
    assert epsilon(Laplace(2.0), 1e-5) < each < 0.98 * worst


@pytest.mark.parametrize("times", [1, 7, 60])
def test_a_noisy_count_costs_what_randomised_response_costs(times: int) -> None:
    exact = randomised_response_epsilon(0.3, times, 1e-5)
    spent = epsilon(DiscreteLaplace(0.3, 1, times), 1e-5)
    assert exact - 1e-9 <= spent <= exact + 1e-4 * times


def test_selections_cost_what_randomised_response_costs() -> None:
    exact = randomised_response_epsilon(0.3, 7, 1e-5)
    spent = epsilon([Selection(0.3)] * 7, 1e-5)
    assert exact - 1e-9 <= spent <= exact + 7e-4


def test_an_opaque_release_costs_what_it_states() -> None:
    """At a delta just above its own nothing is gained; at a larger one the rest is worth a bit."""
    opaque = Opaque(0.5, 1e-6)
    assert 0.5 - 1e-4 < epsilon(opaque, 1.0001e-6) <= 0.5 + 1e-4
    assert epsilon(opaque, 0.1) < 0.4


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_opaque_releases_cost_at_most_what_basic_composition_says(accountant: str) -> None:
    """Exact: all succeed but for 1 - (1 - delta)^n, and then they are randomised responses."""
    parts: list[Mechanism] = [Opaque(0.1, 1e-7)] * 30
    kept = (1 - 1e-7) ** 30
    exact = randomised_response_epsilon(0.1, 30, (1e-5 - (1 - kept)) / kept)
    spent = epsilon(parts, 1e-5, accountant=accountant)
    assert exact - 1e-6 <= spent <= 30 * 0.1 + 1e-9
    if accountant == "pld":
        assert spent <= exact + 30e-4


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_a_delta_that_opaque_releases_have_spent_is_refused(accountant: str) -> None:
    with pytest.raises(ConfigurationError, match="opaque releases have spent"):
        epsilon([Opaque(1.0, 5e-6)] * 2, 0.99e-5, accountant=accountant)


@pytest.mark.parametrize("delta", [1e-10, 1e-12])
def test_rounding_never_lowers_a_bound_at_a_tiny_delta(delta: float) -> None:
    """A thousand convolutions by Fourier transforms, of what is a Gaussian but for 1e-16."""
    nearly_all = 1 - 2.0**-53
    exact = gaussian_epsilon(60.0 / math.sqrt(1000), delta)
    sampled = PoissonGaussian(60.0, nearly_all, 1000)
    users = UserPoissonGaussian(60.0, nearly_all, 1000, records_per_user=1)
    for mechanism in (sampled, users):
        spent = epsilon(mechanism, delta)
        assert exact <= spent <= 1.02 * exact
        assert delta_of(mechanism, spent) == pytest.approx(delta, rel=1e-3)


@pytest.mark.parametrize("delta", [1e-10, 1e-12])
def test_rounding_never_lowers_a_bound_of_eight_different_runs(delta: float) -> None:
    exact = gaussian_epsilon(60.0 / math.sqrt(1000), delta)
    runs = [PoissonGaussian(60.0 + 1e-9 * run, 1 - 2.0**-53, 125) for run in range(8)]
    assert exact <= epsilon(runs, delta) <= 1.02 * exact


def composed_without_cancellation(mechanism: PoissonGaussian, width: float) -> list[DensePLDPmf]:
    """Sum the losses of one step again and again by products of positive numbers alone."""
    once = loss_distribution((dataclasses.replace(mechanism, steps=1),), width)
    return [
        _power(side.to_dense_pmf(), mechanism.steps) for side in (once._pmf_remove, once._pmf_add)
    ]


def _power(once: DensePLDPmf, times: int) -> DensePLDPmf:
    if times == 1:
        return once
    half = _power(once, times // 2)
    whole = _sum(half, half)
    return _sum(whole, once) if times % 2 else whole


def _sum(one: DensePLDPmf, other: DensePLDPmf) -> DensePLDPmf:
    masses = np.convolve(one._probs, other._probs)
    kept = np.flatnonzero(masses > 1e-24)  # less than 1e-19 in all is cut, which lowers delta
    masses, first = masses[kept[0] : kept[-1] + 1], one._lower_loss + other._lower_loss + kept[0]
    infinite = one._infinity_mass + other._infinity_mass
    return DensePLDPmf(one._discretization, int(first), masses, infinite, True)  # noqa: FBT003  # their signature


@pytest.mark.parametrize("adjacency", ["add_or_remove", "replace_one"])
def test_rounding_never_lowers_a_bound_of_what_is_sampled_rarely(adjacency: str) -> None:
    """A transform whose values are all near 1 in size loses more than that of a broad loss."""
    mechanism = PoissonGaussian(0.52, 0.002, 6000, Adjacency(adjacency))
    exact = composed_without_cancellation(mechanism, 0.01)
    for spent in np.linspace(0.5, 12.0, 47):
        least = max(side.get_delta_for_epsilon(spent) for side in exact)
        assert least <= delta_of(mechanism, spent, grid=Grid(0.01)) <= least + 1e-11


def test_a_delta_that_rounding_may_hide_is_refused() -> None:
    with pytest.raises(AccountantError, match="larger delta"):
        epsilon(PoissonGaussian(20.0, 0.5, 1000), 1e-13)


def test_delta_counts_what_opaque_releases_gave_away_however_little() -> None:
    for accountant in ("pld", "rdp"):
        assert delta_of(Opaque(1.0, 1e-17), 5.0, accountant=accountant) >= 1e-17


# --- users ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("records", "published", "digit"), [(2, 18.9, 0.1), (5, 53.3, 0.1)])
def test_users_agree_with_the_published_table(records: int, published: float, digit: float) -> None:
    spent = epsilon(UserPoissonGaussian(0.6, RATE, 660, records), 1e-5, grid=COARSE)
    assert spent == pytest.approx(published, rel=1e-6, abs=0.51 * digit)


def test_users_of_ten_records_agree_with_the_published_value() -> None:
    spent = epsilon(UserPoissonGaussian(0.6, RATE, 660, 10), 1e-5, grid=COARSE)
    assert spent == pytest.approx(126, abs=0.5)


def test_one_record_per_user_costs_what_the_record_costs() -> None:
    record = epsilon(PoissonGaussian(0.6, RATE, 660), 1e-5, grid=COARSE)
    user = epsilon(UserPoissonGaussian(0.6, RATE, 660, 1), 1e-5, grid=COARSE)
    assert user == pytest.approx(record, rel=1e-8)


def test_users_in_full_batches_agree_with_the_closed_form() -> None:
    spent = epsilon(UserPoissonGaussian(30.0, 1.0, 100, 3), 1e-5)
    assert spent == pytest.approx(gaussian_epsilon(1.0, 1e-5), abs=1e-6)


def naive_group_epsilon(record: Mechanism, size: int, delta: float) -> float:
    """Convert by (k e, delta (exp(k e) - 1) / (exp(e) - 1)) at the best record-level delta."""

    def excess(log_delta: float) -> float:
        each = epsilon(record, math.exp(log_delta), grid=COARSE)
        return log_delta + math.log(math.expm1(size * each) / math.expm1(each)) - math.log(delta)

    best = brentq(excess, math.log(1e-13), math.log(delta), xtol=1e-4)
    return size * epsilon(record, math.exp(best - 1e-3), grid=COARSE)


def test_users_cost_more_than_records_and_less_than_the_naive_conversion() -> None:
    record = PoissonGaussian(1.5, 0.02, 200)
    users = [
        epsilon(UserPoissonGaussian(1.5, 0.02, 200, count), 1e-5, grid=COARSE)
        for count in (1, 2, 3)
    ]
    assert epsilon(record, 1e-5, grid=COARSE) <= users[0] + 1e-9
    assert users[0] < users[1] < users[2]
    for size, spent in zip((2, 3), users[1:], strict=True):
        assert spent < naive_group_epsilon(record, size, 1e-5)


def test_noise_is_calibrated_for_users() -> None:
    target = PrivacyTarget(3.0, 1e-4, records_per_user=3)
    run = calibrate(target, sample_rate=0.05, steps=50)
    assert isinstance(run, UserPoissonGaussian)
    less = UserPoissonGaussian(run.noise_multiplier - 2e-4, 0.05, 50, 3)
    assert target.spent(run) <= 3.0 < target.spent(less)


# --- laws ----------------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[[float, int], Mechanism]] = {
    "poisson": lambda noise, steps: PoissonGaussian(noise, 0.05, steps),
    "truncated": lambda noise, steps: TruncatedPoissonGaussian(noise, 0.05, steps, 2000, 130),
    "user": lambda noise, steps: UserPoissonGaussian(noise, 0.05, steps, 3),
    "fixed": lambda noise, steps: FixedBatchGaussian(noise, steps, max(1, steps // 10)),
    "gaussian": Gaussian,
    "laplace": Laplace,
    "discrete": lambda noise, steps: DiscreteLaplace(1 / noise, 1, steps),
}
FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
NOISES, STEPS, DELTAS = st.floats(1.0, 10), st.integers(1, 60), st.sampled_from([1e-8, 1e-5, 1e-3])


@FAMILY
@FEW
@given(NOISES, STEPS, DELTAS, st.integers(2, 4))
def test_every_mechanism_costs_more_with_steps_and_never_less_than_nothing(
    family: Callable[[float, int], Mechanism], noise: float, steps: int, delta: float, times: int
) -> None:
    less = epsilon(family(noise, steps), delta, grid=COARSE)
    assert 0 <= less <= epsilon(family(noise, steps * times), delta, grid=COARSE) + 1e-9


@FAMILY
@FEW
@given(NOISES, STEPS, DELTAS, st.floats(1.1, 3), st.floats(2, 100))
def test_every_mechanism_costs_less_with_noise_and_with_delta(
    family: Callable[[float, int], Mechanism],
    noise: float,
    steps: int,
    delta: float,
    factor: float,
    times: float,
) -> None:
    spent = epsilon(family(noise, steps), delta, grid=COARSE)
    # Pure losses are rounded up to the grid, by at most one point per step.
    rounding = 1e-9 + (1e-3 * steps if family is FAMILIES["discrete"] else 0)
    assert epsilon(family(noise * factor, steps), delta, grid=COARSE) <= spent + rounding
    assert epsilon(family(noise, steps), min(delta * times, 0.5), grid=COARSE) <= spent


@pytest.mark.parametrize("family", ["truncated", "user"])
def test_a_larger_sample_rate_costs_more(family: str) -> None:
    def at(rate: float) -> Mechanism:
        if family == "user":
            return UserPoissonGaussian(1.0, rate, 50, 3)
        return TruncatedPoissonGaussian(1.0, rate, 50, 1000, 100)

    spent = [epsilon(at(rate), 1e-5, grid=COARSE) for rate in (0.02, 0.05, 0.1)]
    assert spent == sorted(spent)
    assert spent[0] < 0.9 * spent[2]


def test_a_smaller_cut_costs_more() -> None:
    spent = [
        epsilon(TruncatedPoissonGaussian(1.0, 0.05, 50, 2000, cut), 1e-5, grid=COARSE)
        for cut in (160, 120, 100)
    ]
    assert spent == sorted(spent)
    assert spent[0] < 0.9 * spent[2]


# --- mixes ---------------------------------------------------------------------------------------

MIX: list[Mechanism] = [
    PoissonGaussian(1.0, 0.05, 50),
    Gaussian(5.0, 2),
    Laplace(2.0),
    Selection(0.2),
    Opaque(0.3, 1e-7),
]


def test_a_mix_costs_more_than_each_and_less_than_the_sum() -> None:
    alone = [epsilon(part, 1e-5, grid=COARSE) for part in MIX]
    for accountant in ("pld", "rdp"):
        both = epsilon(MIX, 1e-5, accountant=accountant, grid=COARSE)
        assert max(alone) < both
    assert epsilon(MIX, 1e-5, grid=COARSE) < sum(alone)


def test_the_order_of_a_mix_does_not_matter() -> None:
    for accountant in ("pld", "rdp"):
        forward = epsilon(MIX, 1e-5, accountant=accountant, grid=COARSE)
        assert forward == epsilon(MIX[::-1], 1e-5, accountant=accountant, grid=COARSE)


def test_rdp_is_above_pld_for_a_mix() -> None:
    assert epsilon(MIX, 1e-5, accountant="rdp") > epsilon(MIX, 1e-5, grid=COARSE)


def test_composed_parts_cost_what_they_cost_side_by_side() -> None:
    together: list[Mechanism] = [Composed((MIX[0], Composed(tuple(MIX[1:]))))]
    for accountant in ("pld", "rdp"):
        spent = epsilon(MIX, 1e-5, accountant=accountant, grid=COARSE)
        assert epsilon(together, 1e-5, accountant=accountant, grid=COARSE) == spent


def test_a_schedule_is_as_short_as_it_has_different_values() -> None:
    schedule = [PoissonGaussian(1.0 + step % 2, 0.05, 1) for step in range(600)]
    assert composition(schedule) == (
        PoissonGaussian(1.0, 0.05, 300),
        PoissonGaussian(2.0, 0.05, 300),
    )


def test_participations_add_up_over_runs() -> None:
    runs = [FixedBatchGaussian(2.0, 30, 3), FixedBatchGaussian(2.0, 10, 1)]
    assert epsilon(runs, 1e-5) == epsilon(Gaussian(2.0, 4, Adjacency.ZERO_OUT), 1e-5)


def test_full_batches_of_every_kind_are_one_gaussian() -> None:
    parts: list[Mechanism] = [PoissonGaussian(20.0, 1.0, 50), Gaussian(10.0, 25)]
    joint = (50 / 20**2 + 25 / 10**2) ** -0.5
    assert epsilon(parts, 1e-5) == pytest.approx(gaussian_epsilon(joint, 1e-5), abs=1e-6)


def test_mechanisms_of_different_units_are_refused() -> None:
    parts: list[Mechanism] = [PoissonGaussian(1.0, 0.1, 1), UserPoissonGaussian(1.0, 0.1, 1, 2)]
    with pytest.raises(ConfigurationError, match="unit=record and user"):
        epsilon(parts, 1e-5)


def test_the_first_steps_cost_no_more_than_all() -> None:
    first = first_steps(MIX[0], 20)
    assert first is not None
    assert epsilon(first, 1e-5, grid=COARSE) < epsilon(MIX[0], 1e-5, grid=COARSE)


def test_an_impostor_among_the_parts_is_refused() -> None:
    class Free:
        kind = "free"
        adjacency = Adjacency.ADD_OR_REMOVE

    with pytest.raises(ConfigurationError, match="one or more mechanisms"):
        epsilon(Composed((Free(),)), 1e-5)  # type: ignore[arg-type]


# --- refusals ------------------------------------------------------------------------------------

BEST = RepeatAndSelect(PoissonGaussian(1.0, 0.1, 3), 10, 1.0)


@pytest.mark.parametrize(
    ("mechanism", "accountant", "advice"),
    [
        (BEST, "pld", "Set accountant to rdp"),
        (BEST, "prv", "rdp for"),
        (TruncatedPoissonGaussian(1.0, 0.1, 3, 100, 20), "rdp", "Set accountant to pld"),
        (UserPoissonGaussian(1.0, 0.1, 3, 2), "rdp", "Set accountant to pld"),
        (UserPoissonGaussian(1.0, 0.1, 3, 2), "prv", "Set accountant to pld"),
        (Laplace(1.0), "prv", "Set accountant to pld"),
        (Gaussian(1.0, 1, Adjacency.REPLACE_ONE), "prv", "Set accountant to pld"),
        (
            RepeatAndSelect(UserPoissonGaussian(1.0, 0.1, 3, 2), 10, 1.0),
            "rdp",
            "Describe its base",
        ),
        (RepeatAndSelect(Opaque(1.0, 1e-9), 10, 1.0), "rdp", "Describe its base"),
    ],
)
def test_an_accountant_without_a_bound_names_one_that_has_it(
    mechanism: Mechanism, accountant: str, advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        epsilon(mechanism, 1e-5, accountant=accountant)
