"""Budgets, and how what is charged is added up against them."""

import math

import pytest

from dpft.accounting import (
    Accountant,
    Adjacency,
    PoissonGaussian,
    RepeatAndSelect,
    UserPoissonGaussian,
    epsilon,
)
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.ledger import Budget, Plans, filter_epsilon, planned_epsilon
from dpft.accounting.ledger.privacy_filter import orders_for

RUN = PoissonGaussian(20.0, 1.0, 100)


def test_adaptive_plans_are_the_default_and_pay_by_the_filter() -> None:
    budget = Budget(epsilon=8, delta=1e-5)
    assert budget.plans is Plans.ADAPTIVE
    assert budget.spent([RUN]) == filter_epsilon([RUN], 1e-5, orders_for(8, 1e-5))


def test_fixed_plans_pay_by_privacy_loss_distributions() -> None:
    budget = Budget(epsilon=8, delta=1e-5, plans=Plans.FIXED)
    assert budget.spent([RUN]) == epsilon(RUN, 1e-5)
    assert budget.spent([RUN]) < filter_epsilon([RUN], 1e-5, budget.orders)
    assert budget.share([RUN]) == budget.spent([RUN]) / 8


def test_a_selection_among_fixed_plans_pays_by_renyi_divergences() -> None:
    chosen = RepeatAndSelect(RUN, mean=5, shape=1.0)
    spent = planned_epsilon([chosen, RUN], 1e-5)
    assert spent == epsilon([chosen, RUN], 1e-5, accountant=Accountant.RDP)


@pytest.mark.parametrize("plans", Plans)
def test_no_run_costs_nothing_and_one_without_privacy_everything(plans: Plans) -> None:
    budget = Budget(epsilon=8, delta=1e-5, plans=plans)
    assert budget.spent([]) == 0.0
    assert budget.spent([None]) == math.inf


@pytest.mark.parametrize("plans", Plans)
def test_neighbouring_relations_and_units_are_not_mixed(plans: Plans) -> None:
    budget = Budget(epsilon=8, delta=1e-5, plans=plans)
    other = PoissonGaussian(20.0, 1.0, 100, Adjacency.ZERO_OUT)
    users = UserPoissonGaussian(20.0, 0.5, 10, records_per_user=2)
    with pytest.raises(ConfigurationError, match="adjacency=add_or_remove and zero_out"):
        budget.spent([RUN, other])
    with pytest.raises(ConfigurationError, match="unit=record and user"):
        budget.spent([RUN, users])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": 0}, "epsilon=0"),
        ({"epsilon": math.inf}, "epsilon=inf"),
        ({"delta": 1.0}, "delta=1"),
        ({"plans": "loose"}, "plans"),
    ],
)
def test_an_impossible_budget_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Budget(**{"epsilon": 8, "delta": 1e-5, **change})  # type: ignore[arg-type]
