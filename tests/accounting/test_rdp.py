"""Renyi divergences, from above, against closed forms and the other accountant."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import (
    Adjacency,
    Composed,
    ConfigurationError,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    Selection,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
    epsilon,
)
from dpft.accounting.rdp import renyi_divergences

SOME = [1.5, 2.0, 4.0, 33.0, 1024.0]


def test_divergences_of_the_gaussian_are_linear_in_the_order() -> None:
    found = renyi_divergences([Gaussian(3.0, 7)], SOME)
    assert found == pytest.approx([7 * order / (2 * 9) for order in SOME], rel=1e-12)
    replaced = renyi_divergences([Gaussian(3.0, 7, Adjacency.REPLACE_ONE)], SOME)
    assert replaced == pytest.approx(4 * found, rel=1e-12)


def test_fixed_batches_and_full_batches_are_gaussians() -> None:
    expected = renyi_divergences([Gaussian(3.0, 7)], SOME)
    assert (renyi_divergences([FixedBatchGaussian(3.0, 50, 7)], SOME) == expected).all()
    assert (renyi_divergences([PoissonGaussian(3.0, 1.0, 7)], SOME) == expected).all()


@given(st.floats(1e-6, 20), st.floats(1.01, 200))
def test_divergences_of_pure_guarantees_are_those_of_randomised_response(
    guarantee: float, order: float
) -> None:
    """log(p^a (1-p)^(1-a) + (1-p)^a p^(1-a)) / (a - 1), by exponents that do not overflow."""
    log_true = -math.log1p(math.exp(-guarantee))
    log_false = log_true - guarantee
    exact = np.logaddexp(
        order * log_true + (1 - order) * log_false, order * log_false + (1 - order) * log_true
    ) / (order - 1)
    for mechanism in (Selection(guarantee), Opaque(guarantee, 0.0), DiscreteLaplace(guarantee)):
        found = float(renyi_divergences([mechanism], [order])[0])
        assert found == pytest.approx(exact, rel=1e-6, abs=1e-13 / (order - 1))
        assert 0 <= found <= min(guarantee, order * guarantee**2 / 2)


def test_divergences_of_laplace_agree_with_quadrature() -> None:
    points = np.linspace(-80, 80, 400_001)
    width = points[1] - points[0]
    for order in (1.5, 3.0, 10.0):
        logs = -order * np.abs(points) / 2 - (1 - order) * np.abs(points - 1) / 2 - math.log(4)
        exact = 5 * math.log(np.exp(logs).sum() * width) / (order - 1)
        assert renyi_divergences([Laplace(2.0, 5)], [order])[0] == pytest.approx(exact, rel=1e-6)


MIX: list[Mechanism] = [PoissonGaussian(1.0, 0.05, 50), Laplace(2.0), Selection(0.2)]


def test_divergences_add_up_over_mechanisms() -> None:
    alone = [renyi_divergences([part], SOME) for part in MIX]
    assert renyi_divergences(MIX, SOME) == pytest.approx(sum(alone), rel=1e-12)
    assert (renyi_divergences([Composed(tuple(MIX))], SOME) == renyi_divergences(MIX, SOME)).all()
    assert (renyi_divergences([], SOME) == 0).all()


@pytest.mark.parametrize(
    "mechanism",
    [
        Opaque(1.0, 1e-9),
        UserPoissonGaussian(1.0, 0.1, 3, 2),
        TruncatedPoissonGaussian(1.0, 0.1, 3, 100, 20),
        PoissonGaussian(1.0, 0.1, 3, Adjacency.REPLACE_ONE),
        RepeatAndSelect(UserPoissonGaussian(1.0, 0.1, 3, 2), 10, 1.0),
        Composed((Opaque(1.0, 1e-9), Gaussian(1.0))),
    ],
)
def test_without_a_bound_divergences_are_infinite(mechanism: Mechanism) -> None:
    assert (renyi_divergences([Gaussian(1.0), mechanism], SOME) == math.inf).all()


@settings(max_examples=5, deadline=None)
@given(st.floats(0.8, 5), st.integers(1, 50))
def test_divergences_grow_with_the_order_and_with_steps(noise: float, steps: int) -> None:
    """Integer orders: between them dp-accounting interpolates, from above but not monotonically."""
    whole = [2.0, 3.0, 7.0, 20.0, 64.0]
    for build in (
        lambda count: PoissonGaussian(noise, 0.05, count),
        lambda count: Laplace(noise, count),
        lambda count: DiscreteLaplace(1 / noise, 2, count),
    ):
        found = renyi_divergences([build(steps)], whole)
        assert (np.diff(found) > 0).all()
        assert (renyi_divergences([build(2 * steps)], whole) > found).all()


def test_the_order_in_which_orders_are_asked_for_does_not_matter() -> None:
    best = RepeatAndSelect(PoissonGaussian(1.0, 0.05, 50), 10, 1.0)
    forward = renyi_divergences([best], SOME)
    assert (renyi_divergences([best], SOME[::-1]) == forward[::-1]).all()


@pytest.mark.parametrize("orders", [[1.0], [0.5], [math.inf], [math.nan], [[2.0]], [2.0, -1.0]])
def test_orders_at_which_nothing_composes_are_refused(orders: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="orders="):
        renyi_divergences([Gaussian(1.0)], orders)


@pytest.mark.parametrize(
    "mechanism",
    [
        Gaussian(3.0, 7),
        Gaussian(3.0, 7, Adjacency.REPLACE_ONE),
        FixedBatchGaussian(3.0, 50, 7),
        Laplace(2.0, 4),
        DiscreteLaplace(0.3, 1, 40),
        DiscreteLaplace(0.1, 3, 40),
    ],
)
def test_rdp_is_never_below_pld_for_any_mechanism(mechanism: Mechanism) -> None:
    spent = epsilon(mechanism, 1e-5, accountant="rdp")
    assert spent >= epsilon(mechanism, 1e-5) - 1e-4  # what pure losses are rounded up by


def test_rdp_takes_the_deltas_of_opaque_releases_out_of_its_own() -> None:
    known = epsilon([Opaque(0.1, 9e-6), Laplace(2.0, 4)], 1e-5, accountant="rdp")
    pure = epsilon([Opaque(0.1, 0.0), Laplace(2.0, 4)], 1e-6, accountant="rdp")
    assert known == pytest.approx(pure, rel=1e-9)
    assert known > epsilon([Opaque(0.1, 0.0), Laplace(2.0, 4)], 1e-5, accountant="rdp")
