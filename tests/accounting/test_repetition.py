"""The best of many repetitions, against dp-accounting and published values."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpft.accounting import (
    Composed,
    Gaussian,
    Laplace,
    Mechanism,
    PoissonGaussian,
    RepeatAndSelect,
    epsilon,
)
from dpft.accounting.rdp import ORDERS
from dpft.accounting.repetition import _stopping_probability

BASE = PoissonGaussian(0.6, 1024 / 67349, 660)
SHAPES = [0.0, 0.5, 1.0, 3.0, "poisson"]


def spent_by(mechanism: Mechanism, delta: float = 1e-5) -> float:
    return epsilon(mechanism, delta, accountant="rdp")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [1.0, 2.5, 10.0, 300.0])
@pytest.mark.parametrize("base", [PoissonGaussian(1.0, 0.02, 500), Laplace(4.0, 3)])
def test_repeat_and_select_agrees_with_dp_accounting(
    base: Mechanism, mean: float, shape: float | str
) -> None:
    from dp_accounting.rdp import RdpAccountant

    mechanism = RepeatAndSelect(base, mean, shape)
    expected = RdpAccountant(ORDERS).compose(mechanism.event()).get_epsilon(1e-5)
    assert spent_by(mechanism) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("mean", "shape", "published"),
    [
        (5, 1.0, 14.7),
        (10, 1.0, 16.1),
        (50, 1.0, 19.1),
        (10, 0.0, 14.9),
        (50, 0.0, 17.0),
        (10, "poisson", 18.4),
        (50, "poisson", 44.8),
    ],
)
def test_repeat_and_select_agrees_with_the_published_values(
    mean: float, shape: float | str, published: float
) -> None:
    assert spent_by(RepeatAndSelect(BASE, mean, shape)) == pytest.approx(published, abs=0.051)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.01, 1e4), st.floats(0, 5))
@example(2.0, 2.2e-309)
@example(1e4, 1e-13)
def test_the_distribution_has_the_stated_mean(mean: float, shape: float) -> None:
    """Sum the truncated negative binomial's mean in closed form: eta (1/g - 1) / (1 - g^eta)."""
    stop = _stopping_probability(mean, shape)
    if shape < 1e-9:
        found = (1 / stop - 1) / math.log(1 / stop)
    else:
        found = shape * (1 / stop - 1) / -math.expm1(shape * math.log(stop))
    assert mean * (1 - 1e-9) <= found <= mean * (1 + 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_more_repetitions_cost_more_and_never_less_than_one_run(shape: float | str) -> None:
    spent = [spent_by(RepeatAndSelect(BASE, mean, shape)) for mean in (1.0, 3.0, 30.0)]
    assert spent_by(BASE) <= spent[0] < spent[1] < spent[2]


def test_a_score_of_its_own_is_part_of_what_is_repeated() -> None:
    alone = RepeatAndSelect(BASE, 10, 1.0)
    scored = RepeatAndSelect(Composed((BASE, Laplace(10.0))), 10, 1.0)
    assert spent_by(alone) < spent_by(scored)


def test_a_selection_composes_with_other_mechanisms() -> None:
    best = RepeatAndSelect(BASE, 10, 1.0)
    both = epsilon([best, Gaussian(5.0)], 1e-5, accountant="rdp")
    assert spent_by(best) < both < spent_by(best) + spent_by(Gaussian(5.0))
    assert epsilon([best, best], 1e-5, accountant="rdp") > both
