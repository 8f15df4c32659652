"""The filter: what it lets through has an order of its set that pays for all of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import Accountant, Opaque, PoissonGaussian, epsilon
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.ledger import Budget, filter_epsilon
from dpft.accounting.ledger.privacy_filter import (
    FORMER_ORDERS,
    FilterOrder,
    checked_orders,
    filter_share,
    orders_for,
)

DELTA = 1e-5
ORDERS = orders_for(8.0, DELTA)


def by_hand(rho_per_order: float, delta: float, orders: tuple[FilterOrder, ...]) -> float:
    """Convert a Gaussian's divergence, order times a constant, at the best order of the set."""
    return min(
        order * rho_per_order
        + math.log1p(-1 / order)
        - (math.log(share * delta) + math.log(order)) / (order - 1)
        for order, share in orders
    )


@given(noise=st.floats(2.0, 50.0), steps=st.integers(1, 500), delta=st.floats(1e-8, 1e-3))
@settings(max_examples=25)
def test_one_order_pays_with_its_share_of_delta(noise: float, steps: int, delta: float) -> None:
    spent = filter_epsilon([PoissonGaussian(noise, 1.0, steps)], delta, ORDERS)
    rho = steps / (2 * noise**2)
    assert spent == pytest.approx(max(0.0, by_hand(rho, delta, ORDERS)), rel=1e-9)


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
        assert filter_epsilon(mechanisms, DELTA, ORDERS) > epsilon(
            mechanisms, DELTA, accountant=accountant
        )


def test_costs_of_one_order_add_up_over_runs() -> None:
    whole = filter_epsilon([PoissonGaussian(10.0, 1.0, 50)], DELTA, ORDERS)
    parts = [PoissonGaussian(10.0, 1.0, 20), PoissonGaussian(10.0, 1.0, 30)]
    assert filter_epsilon(parts, DELTA, ORDERS) == pytest.approx(whole)
    assert filter_epsilon(parts[:1], DELTA, ORDERS) < whole


def test_nothing_costs_nothing_and_no_privacy_costs_everything() -> None:
    assert filter_epsilon([], DELTA, ORDERS) == 0.0
    assert filter_epsilon([PoissonGaussian(10.0, 1.0, 1), None], DELTA, ORDERS) == math.inf


def test_what_has_no_renyi_bound_is_not_let_through() -> None:
    assert filter_epsilon([Opaque(epsilon=0.1, delta=1e-7)], DELTA, ORDERS) == math.inf


@pytest.mark.parametrize("budget", [0.5, 1.0, 8.0, 30.0, 100.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_orders_depend_on_the_budget_alone(budget: float, delta: float) -> None:
    """One of them is near the best for a Gaussian that uses the budget up, and delta is whole."""
    orders = orders_for(budget, delta)
    assert orders == orders_for(budget, delta) == Budget(epsilon=budget, delta=delta).orders
    assert len(orders) <= 3
    assert math.fsum(share for _, share in orders) <= 1
    every = tuple(FilterOrder(order, 1.0) for order in np.linspace(1.05, 60, 2000))
    rho = np.geomspace(1e-5, 50, 5000)
    asked = np.array([by_hand(each, delta, orders) for each in rho])
    last = rho[asked <= budget].max()
    assert budget / by_hand(last, delta, every) < 1.09


def test_a_run_that_pld_puts_at_eight_asks_for_little_more_than_renyi_divergences_do() -> None:
    """660 steps of 1,024 of SST-2's records, calibrated to 8: eight orders ask for 10.9."""
    run = PoissonGaussian(0.6258, 0.0152044, 660)
    least = epsilon(run, DELTA, accountant=Accountant.RDP)
    assert 7.99 < epsilon(run, DELTA) < 8.01
    asked = filter_epsilon([run], DELTA, orders_for(9.55, DELTA))
    assert least < asked < min(9.55, 1.04 * least)
    assert filter_epsilon([run], DELTA, FORMER_ORDERS) > 1.1 * least


def test_large_and_small_budgets_let_runs_through_that_eight_orders_refuse() -> None:
    strong = PoissonGaussian(2.8978, 0.0152044, 660)  # epsilon 0.5
    weak = PoissonGaussian(0.4069, 0.0152044, 660)  # epsilon 30
    for run, budget in ((strong, 0.57), (weak, 36.0)):
        assert filter_epsilon([run], DELTA, orders_for(budget, DELTA)) <= budget
        assert filter_epsilon([run], DELTA, FORMER_ORDERS) > budget


def test_the_share_reaches_one_where_the_budget_ends() -> None:
    for steps in range(1, 200, 7):
        mechanisms = [PoissonGaussian(10.0, 1.0, steps), PoissonGaussian(5.0, 1.0, 20)]
        share = filter_share(mechanisms, (5.0, DELTA), orders_for(5.0, DELTA))
        spent = filter_epsilon(mechanisms, DELTA, orders_for(5.0, DELTA))
        assert (share <= 1) == (spent <= 5.0)
    half = filter_share(mechanisms[:1], (5.0, DELTA), orders_for(5.0, DELTA))
    both = filter_share(mechanisms[:1] * 2, (5.0, DELTA), orders_for(5.0, DELTA))
    assert both == pytest.approx(2 * half)
    assert filter_share([], (5.0, DELTA), ORDERS) == 0.0
    assert filter_share([None], (5.0, DELTA), ORDERS) == math.inf


@pytest.mark.parametrize(
    "found", [[], [(1.0, 0.5)], [(math.inf, 0.5)], [(3.0, 0.0)], [(3.0, 0.6), (4.0, 0.5)]]
)
def test_orders_that_share_more_than_delta_are_refused(found: list[tuple[float, float]]) -> None:
    with pytest.raises(ConfigurationError, match="shares of delta"):
        checked_orders(found)
    assert checked_orders([(3.0, 0.5), (4.0, 0.5)])[1] == FilterOrder(4.0, 0.5)


def test_no_budget_is_too_large_or_small_for_orders() -> None:
    for budget in (1e-3, 1e6):
        orders = orders_for(budget, 1e-12)
        assert all(1.05 <= order <= 8192 for order, _ in orders)
