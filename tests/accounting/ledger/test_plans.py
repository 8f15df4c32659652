"""Plans count as fixed if they were declared so before the first output, and orders stay."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dpft.accounting import PoissonGaussian
from dpft.accounting.errors import BudgetError, ConfigurationError, LedgerError
from dpft.accounting.ledger import Budget, Ledger, Plans, RecordDigests, Reservation, summarise
from dpft.accounting.ledger.chain import Entry
from dpft.accounting.ledger.privacy_filter import FORMER_ORDERS, FilterOrder, orders_for

Plan = Callable[..., Reservation]
Digests = Callable[..., RecordDigests]
FIXED = Budget(epsilon=3.0, delta=1e-5, plans=Plans.FIXED)
ADAPTIVE = Budget(epsilon=3.0, delta=1e-5)


def take_a_step(ledger: Ledger, run: Reservation) -> None:
    ledger.reserve(run)
    ledger.intend(run.run_id, ledger.attach(run.run_id), upto=1)


def test_plans_are_not_declared_fixed_after_an_output(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", ADAPTIVE)
    ledger.reserve(plan("a", steps=2))
    ledger.set_budget("mail", FIXED)
    ledger.set_budget("mail", ADAPTIVE)
    ledger.intend("a", ledger.attach("a"), upto=1)
    ledger.settle("a")
    before = ledger.head
    with pytest.raises(ConfigurationError, match="before the first output, but mail had one"):
        ledger.set_budget("mail", FIXED)
    assert ledger.head == before


def test_a_release_is_an_output_too(ledger: Ledger) -> None:
    ledger.release(Reservation.of("metric", "mail", PoissonGaussian(10.0, 1.0, 1)))
    with pytest.raises(ConfigurationError, match="before the first output"):
        ledger.set_budget("mail", FIXED)


def test_a_fixed_budget_may_be_changed_after_an_output(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", FIXED)
    take_a_step(ledger, plan("a"))
    ledger.set_budget("mail", Budget(epsilon=4.0, delta=1e-5, plans=Plans.FIXED))
    assert ledger.state.are_fixed(["mail"])


def test_plans_on_shared_records_are_not_declared_fixed_after_an_output(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    take_a_step(ledger, plan("a", "mail", digests("x", "y")))
    ledger.reserve(plan("b", "post", digests("y", "z")))
    ledger.reserve(plan("c", "calls", digests("v", "w")))
    with pytest.raises(ConfigurationError, match="but mail had one"):
        ledger.set_budget("post", FIXED)
    ledger.set_budget("calls", FIXED)


def test_plans_declared_after_an_output_count_as_adaptive(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    """Of a new data set nobody knows yet that it shares records with one that had outputs."""
    take_a_step(ledger, plan("a", "mail", digests("x", "y"), steps=2))
    ledger.settle("a")
    ledger.set_budget("post", FIXED)
    assert summarise(ledger.state, "post").plans == "fixed"
    steps = 45  # fits by privacy loss distributions alone
    with pytest.raises(BudgetError, match="with adaptive plans"):
        ledger.reserve(plan("b", "post", digests("y", "z"), steps=steps))
    ledger.reserve(plan("c", "post", digests("z"), steps=steps))
    with pytest.raises(BudgetError, match="with adaptive plans"):
        ledger.reserve(plan("d", "post", digests("y"), noise_multiplier=1000.0, steps=1))


def test_a_fixed_budget_is_no_more_one_beside_plans_that_are_not(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    ledger.set_budget("mail", FIXED)
    ledger.reserve(plan("a", "mail", digests("x"), steps=10))
    assert summarise(ledger.state, "mail").plans == "fixed"
    ledger.reserve(plan("b", "post", digests("x"), noise_multiplier=1000.0, steps=1))
    assert summarise(ledger.state, "mail").plans == "adaptive"
    ledger.set_budget("post", FIXED)
    assert summarise(ledger.state, "mail").plans == "fixed"


def test_orders_are_kept_with_the_budget(path: Path, ledger: Ledger) -> None:
    ledger.set_budget("mail", ADAPTIVE)
    assert ledger.entries()[-1].fields["orders"] == [list(each) for each in orders_for(3.0, 1e-5)]
    with Ledger.read(path) as again:
        assert again.state.budgets["mail"] == ADAPTIVE


def write(ledger: Ledger, **changes: object) -> None:
    """Write a budget in the form that entries had before they kept orders."""
    fields = {"dataset": "mail", "epsilon": 3.0, "delta": 1e-5, "plans": "adaptive", "time": "now"}
    with ledger._writing():
        ledger._write(Entry.after(ledger._catch_up().head, "budget", fields | changes), [])


def test_a_ledger_without_orders_goes_on_with_those_it_had(ledger: Ledger, plan: Plan) -> None:
    write(ledger)
    assert ledger.state.budgets["mail"].orders == FORMER_ORDERS
    take_a_step(ledger, plan("a"))
    assert ledger.state.budgets["mail"].spent([]) == 0.0


def test_orders_do_not_change_after_an_output(ledger: Ledger, plan: Plan) -> None:
    write(ledger)
    ledger.set_budget("mail", ADAPTIVE)
    assert ledger.state.budgets["mail"].orders == orders_for(3.0, 1e-5)
    write(ledger)
    take_a_step(ledger, plan("a"))
    ledger.set_budget("mail", ADAPTIVE)
    assert ledger.state.budgets["mail"].orders == FORMER_ORDERS
    ledger.set_budget("mail", Budget(epsilon=4.0, delta=1e-5))
    assert ledger.state.budgets["mail"].orders == orders_for(4.0, 1e-5)


@pytest.mark.parametrize("dataset", ["mail", "never compared with mail"])
def test_orders_are_not_chosen_after_an_output(ledger: Ledger, plan: Plan, dataset: str) -> None:
    """The best one for what was released would need no share of delta, and is known by then."""
    chosen = Budget(epsilon=3.0, delta=1e-5, orders=(FilterOrder(7.0, 1.0),))
    ledger.set_budget("beforehand", chosen)
    assert ledger.state.budgets["beforehand"].orders == chosen.orders
    take_a_step(ledger, plan("a"))
    ledger.set_budget(dataset, chosen)
    assert ledger.state.budgets[dataset].orders == orders_for(3.0, 1e-5)


def test_orders_that_promise_too_much_are_refused_on_reading(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="shares of delta"):
        write(ledger, orders=[[3.0, 0.8], [4.0, 0.8]])
