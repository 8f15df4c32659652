"""The filter: what it lets through has an order of its set that pays for all of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import Accountant, Opaque, PoissonGaussian, epsilon
from dpft.accounting.ledger import filter_epsilon
from dpft.accounting.ledger.privacy_filter import ORDERS

DELTA = 1e-5


def by_hand(rho_per_order: float, delta: float) -> float:
    """Convert a Gaussian's divergence, order times a constant, at the best order of the set."""
    share = delta / len(ORDERS)
    return min(
        order * rho_per_order
        + math.log1p(-1 / order)
        - (math.log(share) + math.log(order)) / (order - 1)
        for order in ORDERS
    )


@given(noise=st.floats(2.0, 50.0), steps=st.integers(1, 500), delta=st.floats(1e-8, 1e-3))
@settings(max_examples=25)
def test_one_order_pays_with_its_share_of_delta(noise: float, steps: int, delta: float) -> None:
    spent = filter_epsilon([PoissonGaussian(noise, 1.0, steps)], delta)
    assert spent == pytest.approx(max(0.0, by_hand(steps / (2 * noise**2), delta)), rel=1e-9)


@pytest.mark.parametrize(
    "mechanisms",
    [
        [PoissonGaussian(0.6, 0.0152, 660)],
        [PoissonGaussian(1.0, 0.03, 100), PoissonGaussian(2.0, 0.1, 50)],
        [PoissonGaussian(20.0, 1.0, 100)],
    ],
)
def test_the_filter_is_never_below_the_accountants(mechanisms: list[PoissonGaussian]) -> None:
    for accountant in (Accountant.PLD, Accountant.RDP):
        assert filter_epsilon(mechanisms, DELTA) > epsilon(mechanisms, DELTA, accountant=accountant)


def test_costs_of_one_order_add_up_over_runs() -> None:
    whole = filter_epsilon([PoissonGaussian(10.0, 1.0, 50)], DELTA)
    parts = [PoissonGaussian(10.0, 1.0, 20), PoissonGaussian(10.0, 1.0, 30)]
    assert filter_epsilon(parts, DELTA) == pytest.approx(whole)
    assert filter_epsilon(parts[:1], DELTA) < whole


def test_nothing_costs_nothing_and_no_privacy_costs_everything() -> None:
    assert filter_epsilon([], DELTA) == 0.0
    assert filter_epsilon([PoissonGaussian(10.0, 1.0, 1), None], DELTA) == math.inf


def test_what_has_no_renyi_bound_is_not_let_through() -> None:
    assert filter_epsilon([Opaque(epsilon=0.1, delta=1e-7)], DELTA) == math.inf


def test_the_set_of_orders_is_fixed_and_every_order_is_of_use() -> None:
    assert ORDERS == (2.4, 3.0, 4.0, 5.5, 8.0, 14.0, 30.0, 100.0)
    noises = np.geomspace(0.3, 100, 60)
    orders = np.asarray(ORDERS)
    conversion = np.log1p(-1 / orders) - (math.log(DELTA / 8) + np.log(orders)) / (orders - 1)
    best = {int((orders / (2 * noise**2) + conversion).argmin()) for noise in noises}
    assert best == set(range(len(ORDERS)))
