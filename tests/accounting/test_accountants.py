"""Epsilon against published settings, closed forms and the laws every accountant must obey."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from dpft.accounting import (
    Accountant,
    AccountantError,
    Adjacency,
    ConfigurationError,
    Grid,
    PoissonGaussian,
    epsilon,
)
from dpft.accounting import registry as registry_module

COARSE = Grid(value_discretization_interval=1e-3)
FEW = settings(max_examples=5, deadline=None)


class Anchor(NamedTuple):
    """A setting, and epsilon by three independent programs, each with its last printed digit."""

    name: str
    mechanism: PoissonGaussian
    delta: float
    pld: float
    pld_digit: float
    rdp: float
    prv: float
    prv_digit: float


def anchor(
    name: str, rate: float, steps: int, noise: float, delta: float, pld: str, rdp: float, prv: str
) -> Anchor:
    """Read a row of the table, keeping the precision with which each number was printed."""

    def digit(text: str) -> float:
        return 10.0 ** -len(text.partition(".")[2])

    mechanism = PoissonGaussian(noise, rate, steps)
    return Anchor(name, mechanism, delta, float(pld), digit(pld), rdp, float(prv), digit(prv))


ANCHORS = [
    anchor("A", 1024 / 67349, 660, 0.6, 1e-5, "9.06689", 10.490, "9.0775"),
    anchor("B", 2048 / 67349, 660, 1.0, 1e-5, "5.00905", 5.553, "5.0194"),
    anchor("C", 2000 / 392702, 3940, 0.65, 1e-6, "6.299", 7.182, "6.309"),
    anchor("D", 2000 / 104743, 1060, 0.9, 1e-5, "4.766", 5.317, "4.776"),
    anchor("E", 1024 / 62659, 620, 0.8, 0.1 / 62659, "4.75294", 5.422, "4.7632"),
    anchor("F", 1024 / 42061, 420, 0.7, 8e-6, "7.551", 8.651, "7.561"),
    anchor("G", 1024 / 67349, 660, 0.4, 1e-5, "31.617", 36.329, "31.629"),
    anchor("H", 4096 / 392702, 288, 1.0, 1e-8, "1.911", 2.404, "1.922"),
    anchor("I", 0.1, 300, 2.0, 1e-4, "3.597", 3.992, "3.607"),
    anchor("J", 0.25, 400, 5.0, 1e-5, "4.48063", 4.852, "4.4909"),
    anchor("K", 1.0, 100, 20.0, 1e-5, "1.9930914", 2.1657, "2.0032"),
    anchor("L", 0.01, 1, 1.0, 1e-5, "0.199", 0.956, "0.210"),
    anchor("M", 0.000256, 97675, 0.5, 1e-8, "6.5506", 7.614, "6.561"),
    anchor("N", 32 / 67349, 6315, 0.5, 1e-5, "3.04736", 4.153, "3.0578"),
]
ALL = [pytest.param(row, id=row.name) for row in ANCHORS]


def gaussian_delta(noise_multiplier: float, spent: float) -> float:
    """Balle and Wang 2018 (1805.06530), theorem 8, at sensitivity 1."""
    shift, width = spent * noise_multiplier, 1 / (2 * noise_multiplier)
    return float(ndtr(width - shift) - math.exp(spent + log_ndtr(-width - shift)))


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Solve the closed form for epsilon."""
    return float(
        brentq(lambda spent: gaussian_delta(noise_multiplier, spent) - delta, 0, 100, xtol=1e-12)
    )


def sampled_gaussian_epsilon(noise_multiplier: float, rate: float, delta: float) -> float:
    """Return epsilon of one Poisson-sampled step, in closed form.

    Removing a record compares q N(1) + (1 - q) N(0) with N(0): delta(e) of the mixture is q times
    that of the Gaussian at log(1 + (exp(e) - 1) / q). The other direction costs less.
    """
    return float(
        brentq(
            lambda spent: (
                rate * gaussian_delta(noise_multiplier, math.log1p(math.expm1(spent) / rate))
                - delta
            ),
            0,
            50,
            xtol=1e-12,
        )
    )


@pytest.mark.parametrize("row", ALL)
def test_epsilon_agrees_with_the_published_anchor(row: Anchor) -> None:
    spent = epsilon(row.mechanism, row.delta)
    assert spent == pytest.approx(row.pld, rel=1e-3, abs=row.pld_digit / 2)


@pytest.mark.parametrize("row", ALL)
def test_rdp_agrees_with_the_published_anchor(row: Anchor) -> None:
    spent = epsilon(row.mechanism, row.delta, accountant="rdp")
    assert spent == pytest.approx(row.rdp, rel=1e-3)


@pytest.mark.parametrize("row", ALL)
def test_prv_agrees_with_the_published_anchor(row: Anchor) -> None:
    spent = epsilon(row.mechanism, row.delta, accountant=Accountant.PRV)
    assert spent == pytest.approx(row.prv, rel=1e-3, abs=row.prv_digit / 2)


@pytest.mark.parametrize("noise", [5.0, 20.0])
def test_full_batches_agree_with_the_closed_form_of_the_gaussian(noise: float) -> None:
    """100 Gaussian steps are one with a tenth of the noise."""
    spent = epsilon(PoissonGaussian(noise, 1.0, 100), 1e-5)
    assert spent == pytest.approx(gaussian_epsilon(noise / 10, 1e-5), abs=1e-6)


def test_the_closed_form_gives_the_exact_value_of_anchor_k() -> None:
    assert gaussian_epsilon(2.0, 1e-5) == pytest.approx(1.9930914044, abs=1e-10)


@pytest.mark.parametrize(
    ("noise", "rate", "delta"), [(1.0, 0.01, 1e-5), (0.6, 0.0152, 1e-6), (2.0, 0.5, 1e-4)]
)
def test_one_step_agrees_with_the_closed_form_of_the_sampled_gaussian(
    noise: float, rate: float, delta: float
) -> None:
    exact = sampled_gaussian_epsilon(noise, rate, delta)
    spent = epsilon(PoissonGaussian(noise, rate, 1), delta)
    assert exact - 1e-9 <= spent <= exact + 1e-4


def test_replace_one_agrees_with_the_published_value() -> None:
    mechanism = PoissonGaussian(0.6, 1024 / 67349, 660, Adjacency.REPLACE_ONE)
    assert epsilon(mechanism, 1e-5) == pytest.approx(10.756, rel=1e-3)


def test_replace_one_without_sampling_equals_half_the_noise() -> None:
    """Exchanging a record moves the sum by 2C, while the multiplier stays std / C."""
    mechanism = PoissonGaussian(20.0, 1.0, 100, Adjacency.REPLACE_ONE)
    assert epsilon(mechanism, 1e-5) == pytest.approx(gaussian_epsilon(1.0, 1e-5), abs=1e-6)


@pytest.mark.parametrize("accountant", list(Accountant))
def test_zero_out_costs_the_same_as_add_or_remove(accountant: Accountant) -> None:
    spent = [
        epsilon(PoissonGaussian(0.6, 1024 / 67349, 660, adjacency), 1e-5, accountant=accountant)
        for adjacency in (Adjacency.ADD_OR_REMOVE, Adjacency.ZERO_OUT)
    ]
    assert spent[0] == pytest.approx(spent[1], rel=1e-9)


@pytest.mark.parametrize("accountant", [Accountant.RDP, Accountant.PRV])
def test_replace_one_is_refused_by_accountants_that_cannot_bound_it(accountant: Accountant) -> None:
    mechanism = PoissonGaussian(1.0, 0.1, 10, Adjacency.REPLACE_ONE)
    with pytest.raises(ConfigurationError, match="replace_one"):
        epsilon(mechanism, 1e-5, accountant=accountant)


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name) for row in ANCHORS if row.name in "ABHIJKLN"]
)
def test_rdp_is_never_below_pld(row: Anchor) -> None:
    assert epsilon(row.mechanism, row.delta, accountant="rdp") >= epsilon(row.mechanism, row.delta)


def test_a_finer_grid_never_gives_a_larger_epsilon() -> None:
    mechanism = PoissonGaussian(1.0, 0.02, 2000)
    spent = [epsilon(mechanism, 1e-5, grid=Grid(width)) for width in (1e-4, 1e-3, 1e-2)]
    assert spent == sorted(spent)


def test_low_noise_is_bounded_on_a_wider_grid_to_four_digits() -> None:
    mechanism = PoissonGaussian(0.2, 1.0, 4)
    assert Grid().interval_for([mechanism]) > 1e-4
    assert epsilon(mechanism, 1e-5) == pytest.approx(gaussian_epsilon(0.1, 1e-5), rel=1e-4)


def test_an_epsilon_whose_exponential_underflows_is_still_bounded() -> None:
    """Near 710 dp-accounting divides by sums of exp(-epsilon); the truth is linear in steps."""
    below, inside, above = (
        epsilon(PoissonGaussian(0.5, 0.5, steps), 1e-5, grid=COARSE) for steps in (734, 784, 834)
    )
    assert below < 690 < inside < 750 < above
    assert inside == pytest.approx((below + above) / 2, rel=1e-3)


# --- laws, over all accountants ------------------------------------------------------------------

NOISES = st.floats(0.7, 20)
RATES = st.floats(1e-4, 0.3)
STEPS = st.integers(1, 1000)
DELTAS = st.sampled_from([1e-8, 1e-6, 1e-5, 1e-3])
LAWFUL = pytest.mark.parametrize("accountant", ["pld", "rdp"])


def cost(mechanism: PoissonGaussian, delta: float, accountant: str) -> float:
    return epsilon(mechanism, delta, accountant=accountant, grid=COARSE)


@LAWFUL
@FEW
@given(noise=NOISES, rate=RATES, steps=STEPS, delta=DELTAS, factor=st.integers(2, 5))
def test_epsilon_grows_with_steps_and_is_never_negative(
    accountant: str, noise: float, rate: float, steps: int, delta: float, factor: int
) -> None:
    less = cost(PoissonGaussian(noise, rate, steps), delta, accountant)
    assert 0 <= less <= cost(PoissonGaussian(noise, rate, steps * factor), delta, accountant)


@LAWFUL
@FEW
@given(noise=NOISES, rate=RATES, steps=STEPS, delta=DELTAS, factor=st.floats(1.1, 2))
def test_epsilon_grows_with_sample_rate(
    accountant: str, noise: float, rate: float, steps: int, delta: float, factor: float
) -> None:
    less = cost(PoissonGaussian(noise, rate, steps), delta, accountant)
    assert less <= cost(PoissonGaussian(noise, rate * factor, steps), delta, accountant) + 1e-9


@LAWFUL
@FEW
@given(noise=NOISES, rate=RATES, steps=STEPS, delta=DELTAS, factor=st.floats(1.1, 4))
def test_epsilon_falls_with_noise(
    accountant: str, noise: float, rate: float, steps: int, delta: float, factor: float
) -> None:
    less = cost(PoissonGaussian(noise * factor, rate, steps), delta, accountant)
    assert less <= cost(PoissonGaussian(noise, rate, steps), delta, accountant) + 1e-9


@LAWFUL
@FEW
@given(noise=NOISES, rate=RATES, steps=STEPS, factor=st.floats(2, 100))
def test_epsilon_falls_with_delta(
    accountant: str, noise: float, rate: float, steps: int, factor: float
) -> None:
    mechanism = PoissonGaussian(noise, rate, steps)
    assert cost(mechanism, 1e-6 * factor, accountant) <= cost(mechanism, 1e-6, accountant)


@pytest.mark.parametrize("accountant", list(Accountant))
@pytest.mark.parametrize(
    "cheaper",
    [
        PoissonGaussian(0.8, 0.02, 400),
        PoissonGaussian(0.8, 0.01, 800),
        PoissonGaussian(0.9, 0.02, 800),
    ],
    ids=["steps", "sample_rate", "noise_multiplier"],
)
def test_every_parameter_of_the_mechanism_matters(
    accountant: Accountant, cheaper: PoissonGaussian
) -> None:
    dear = epsilon(PoissonGaussian(0.8, 0.02, 800), 1e-5, accountant=accountant, grid=COARSE)
    assert epsilon(cheaper, 1e-5, accountant=accountant, grid=COARSE) < 0.9 * dear


@pytest.mark.parametrize("accountant", list(Accountant))
def test_delta_matters(accountant: Accountant) -> None:
    mechanism = PoissonGaussian(0.8, 0.02, 800)
    spent = [
        epsilon(mechanism, delta, accountant=accountant, grid=COARSE) for delta in (1e-4, 1e-8)
    ]
    assert spent[0] < 0.9 * spent[1]


# --- composition ---------------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", list(Accountant))
def test_parts_of_a_run_cost_together_what_the_whole_costs(accountant: Accountant) -> None:
    parts = [PoissonGaussian(0.8, 0.02, 150), PoissonGaussian(0.8, 0.02, 250)]
    whole = PoissonGaussian(0.8, 0.02, 400)
    assert epsilon(parts, 1e-5, accountant=accountant, grid=COARSE) == epsilon(
        whole, 1e-5, accountant=accountant, grid=COARSE
    )


@pytest.mark.parametrize("accountant", list(Accountant))
def test_different_mechanisms_cost_more_than_each_and_less_than_the_sum(
    accountant: Accountant,
) -> None:
    one, other = PoissonGaussian(0.8, 0.02, 300), PoissonGaussian(1.5, 0.1, 200)
    alone = [epsilon(each, 1e-5, accountant=accountant, grid=COARSE) for each in (one, other)]
    both = epsilon([one, other], 1e-5, accountant=accountant, grid=COARSE)
    assert max(alone) < both < sum(alone)
    assert both == epsilon([other, one], 1e-5, accountant=accountant, grid=COARSE)


def test_full_batches_of_different_noise_agree_with_the_closed_form() -> None:
    parts = [PoissonGaussian(20.0, 1.0, 50), PoissonGaussian(10.0, 1.0, 25)]
    joint = (50 / 20**2 + 25 / 10**2) ** -0.5
    assert epsilon(parts, 1e-5) == pytest.approx(gaussian_epsilon(joint, 1e-5), abs=1e-6)


def test_two_equal_runs_cost_the_published_value() -> None:
    """Two runs on the same data, each with epsilon 2.633: jointly 3.688, not 5.27."""
    run = PoissonGaussian(0.95975, 1024 / 67349, 660)
    assert epsilon(run, 0.5 / 67349, grid=COARSE) == pytest.approx(2.633, rel=1e-2)
    assert epsilon([run, run], 0.5 / 67349, grid=COARSE) == pytest.approx(3.688, rel=1e-2)


def test_one_hundred_thousand_steps_are_accounted_for() -> None:
    spent = epsilon(PoissonGaussian(0.5, 0.000256, 97675), 1e-8, grid=COARSE)
    # 0.028 by this grid, and 0.0012 for what rounding may hide at this delta
    assert 6.5500 <= spent <= 6.5800


def test_mechanisms_of_different_adjacency_are_refused() -> None:
    parts = [PoissonGaussian(1.0, 0.1, 1), PoissonGaussian(1.0, 0.1, 1, Adjacency.ZERO_OUT)]
    with pytest.raises(ConfigurationError, match="add_or_remove and zero_out"):
        epsilon(parts, 1e-5)


@pytest.mark.parametrize("nothing", [[], [object()], "poisson"])
def test_what_is_no_mechanism_is_refused(nothing: object) -> None:
    with pytest.raises(ConfigurationError, match="PoissonGaussian"):
        epsilon(nothing, 1e-5)  # type: ignore[arg-type]


# --- refusals ------------------------------------------------------------------------------------

RUN = PoissonGaussian(1.0, 0.1, 1)


@pytest.mark.parametrize("delta", [0.0, -1e-5, 1.0, 2.0, math.nan, math.inf, True, "1e-5", None])
def test_delta_outside_the_open_unit_interval_is_refused(delta: object) -> None:
    with pytest.raises(ConfigurationError, match="Expected delta="):
        epsilon(RUN, delta)  # type: ignore[arg-type]


def test_delta_of_one_over_num_records_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="1/num_records=1e-04"):
        epsilon(RUN, 1e-4, num_records=10_000)


@pytest.mark.parametrize("records", [49, 98, 103, 10**400])
def test_rounding_lets_no_delta_of_one_over_num_records_pass(records: int) -> None:
    """1/49 * 49 is below 1 in floating point."""
    with pytest.raises(ConfigurationError, match="1/num_records="):
        epsilon(RUN, max(1 / records, 1e-300), num_records=records)


def test_delta_above_one_over_num_records_is_refused_in_these_words() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        epsilon(RUN, 0.5, num_records=10_000)
    assert str(refusal.value) == (
        "Expected delta=0.5 < 1/num_records=1e-04. A larger delta allows whole records to leak. "
        "Set delta to at most 1e-05."
    )


@pytest.mark.parametrize("records", [0, -1, 1.5, True])
def test_a_number_of_records_that_is_no_count_is_refused(records: object) -> None:
    with pytest.raises(ConfigurationError, match="num_records="):
        epsilon(RUN, 1e-5, num_records=records)  # type: ignore[arg-type]


def test_an_unknown_accountant_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean pld"):
        epsilon(RUN, 1e-5, accountant="pdl")


def test_a_delta_below_what_the_grid_can_bound_is_refused_instead_of_infinite() -> None:
    with pytest.raises(AccountantError, match="epsilon=inf"):
        epsilon(PoissonGaussian(0.6, 0.0152, 660), 1e-17, grid=COARSE)


@pytest.mark.parametrize("outcome", [math.nan, math.inf, -1e-3, ZeroDivisionError("division")])
def test_an_accountant_that_fails_raises_instead_of_answering(
    outcome: float | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> float:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    registered: dict[str, object] = {**registry_module._REGISTERED, "rdp": failing}
    monkeypatch.setattr(registry_module, "_REGISTERED", registered)
    with pytest.raises(AccountantError, match="failed numerically"):
        epsilon(RUN, 1e-5, accountant="rdp")


def test_rdp_does_not_take_a_divergence_lost_to_rounding_for_perfect_privacy() -> None:
    """dp-accounting answers 0 here, since some divergences of one step round to less than zero."""
    spent = epsilon(PoissonGaussian(1e6, 1e-3, 1000), 1e-9, accountant="rdp")
    assert spent > 0


def test_rdp_leaves_out_orders_whose_divergence_came_out_negative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """dp-accounting answers 0 for a negative divergence."""
    from dp_accounting.rdp import rdp_privacy_accountant as theirs

    original: Callable[..., object] = theirs._compute_rdp_poisson_subsampled_gaussian

    def spoilt(*args: object, **kwargs: object) -> object:
        divergences = original(*args, **kwargs)
        divergences[3] = -1.0  # type: ignore[index]
        return divergences

    mechanism = PoissonGaussian(1.25, 0.125, 77)
    sound = epsilon(mechanism, 1e-5, accountant="rdp")
    monkeypatch.setattr(theirs, "_compute_rdp_poisson_subsampled_gaussian", spoilt)
    spent = epsilon(mechanism, 1.0001e-5, accountant="rdp")
    assert spent == pytest.approx(sound, rel=1e-3)


# --- imports -------------------------------------------------------------------------------------

NEITHER = "import sys; assert not {'torch', 'opacus'} & set(sys.modules), 'torch was imported'"


@pytest.mark.parametrize(
    "code",
    [
        "import sys; assert 'dp_accounting' not in sys.modules",
        "epsilon(PoissonGaussian(1, 0.1, 9), 1e-5)",
        "epsilon(PoissonGaussian(1, 0.1, 9), 1e-5, accountant='rdp')",
    ],
    ids=["import", "pld", "rdp"],
)
def test_accounting_never_imports_torch(code: str) -> None:
    script = f"from dpft.accounting import *; {code}; {NEITHER}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
