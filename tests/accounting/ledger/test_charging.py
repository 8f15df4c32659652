"""What a run is charged while it runs, when it crashed, and when it is settled."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import PoissonGaussian
from dpft.accounting.errors import BudgetError, LedgerError
from dpft.accounting.ledger import Budget, Lease, Ledger, Plans, Reservation, Use
from dpft.accounting.mechanisms import Mechanism

MECHANISM = PoissonGaussian(10.0, 1.0, 10)
Plan = Callable[..., Reservation]


def steps(mechanisms: list[Mechanism | None]) -> int:
    return sum(getattr(mechanism, "steps", 0) for mechanism in mechanisms)


def charged(ledger: Ledger, *, adaptive: bool = True) -> int:
    return sum(
        steps(lease.charged("mail", adaptive=adaptive)) for lease in ledger.state.leases.values()
    )


def test_all_steps_are_charged_from_the_reservation_on(ledger: Ledger, plan: Plan) -> None:
    ledger.reserve(plan("a"))
    assert charged(ledger) == 10


def test_a_crashed_run_stays_charged_in_full_until_it_is_settled(path: Path, plan: Plan) -> None:
    with Ledger.open(path) as ledger:
        ledger.reserve(plan("a"))
        ledger.intend("a", ledger.attach("a"), upto=3)
    with Ledger.open(path) as ledger:
        assert charged(ledger) == 10
        ledger.settle("a")
        assert charged(ledger) == 3


def test_steps_never_begun_are_given_back_under_a_filter_alone(ledger: Ledger, plan: Plan) -> None:
    ledger.reserve(plan("a"))
    ledger.intend("a", ledger.attach("a"), upto=4)
    ledger.settle("a")
    assert charged(ledger, adaptive=True) == 4
    assert charged(ledger, adaptive=False) == 10


def test_a_public_stop_rule_gives_back_under_fixed_plans_too(ledger: Ledger, plan: Plan) -> None:
    ledger.reserve(plan("a", stop_rule="stops at midnight"))
    ledger.intend("a", ledger.attach("a"), upto=4)
    assert charged(ledger, adaptive=False) == 10
    ledger.settle("a")
    assert charged(ledger, adaptive=False) == 4


def test_a_run_that_never_began_costs_nothing_once_settled(ledger: Ledger, plan: Plan) -> None:
    ledger.reserve(plan("a"))
    ledger.settle("a")
    assert charged(ledger) == 0


def test_what_was_given_back_can_be_spent(ledger: Ledger, plan: Plan) -> None:
    budget = Budget(epsilon=3.0, delta=1e-5)
    ledger.set_budget("mail", budget)
    ledger.reserve(plan("a", steps=30))
    with pytest.raises(BudgetError):
        ledger.reserve(plan("b", steps=30))
    ledger.intend("a", ledger.attach("a"), upto=5)
    ledger.settle("a")
    ledger.reserve(plan("b", steps=30))


def test_nothing_is_given_back_to_a_fixed_budget_without_a_rule(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", Budget(epsilon=3.0, delta=1e-5, plans=Plans.FIXED))
    ledger.reserve(plan("a", steps=40))
    ledger.settle("a")
    with pytest.raises(BudgetError, match="fixed plans"):
        ledger.reserve(plan("b", steps=40))


def test_what_is_released_at_once_is_never_given_back(ledger: Ledger) -> None:
    ledger.release(Reservation.of("a metric", "mail", MECHANISM))
    assert charged(ledger) == 10
    with pytest.raises(LedgerError, match="settled"):
        ledger.attach("a metric")
    with pytest.raises(LedgerError, match="settled"):
        ledger.settle("a metric")


@given(
    intended=st.integers(0, 10), settled=st.booleans(), adaptive=st.booleans(), rule=st.booleans()
)
@settings(max_examples=25)
def test_never_less_is_charged_than_was_intended(
    intended: int, settled: bool, adaptive: bool, rule: bool
) -> None:
    lease = Lease(
        run_id="a",
        uses=(Use(dataset="mail", mechanism=MECHANISM),),
        steps=10,
        stop_rule="at midnight" if rule else None,
        intended=intended,
        is_settled=settled,
    )
    assert intended <= steps(lease.charged("mail", adaptive=adaptive)) <= 10
    unknown = Lease(
        run_id="a",
        uses=(Use(dataset="mail", mechanism=None),),
        steps=10,
        stop_rule=None,
        intended=intended,
        is_settled=settled,
    )
    assert unknown.charged("mail", adaptive=adaptive) == [None] or (settled and intended == 0)


def test_a_cancelled_run_is_given_back_under_fixed_plans(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", Budget(epsilon=3.0, delta=1e-5, plans=Plans.FIXED))
    ledger.reserve(plan("a", steps=40))
    ledger.cancel("a", "the model is not supported")
    assert charged(ledger, adaptive=False) == 0
    ledger.reserve(plan("b", steps=40))


@pytest.mark.parametrize("reason", ["a model", " "])
def test_a_run_that_a_process_took_up_is_not_cancelled(
    ledger: Ledger, plan: Plan, reason: str
) -> None:
    ledger.reserve(plan("a"))
    if reason.strip():
        ledger.attach("a")
    before = ledger.head
    with pytest.raises(LedgerError, match="before a process took it up"):
        ledger.cancel("a", reason)
    assert ledger.head == before
    assert charged(ledger, adaptive=False) == 10


def test_a_run_and_its_metric_are_charged_together_or_not_at_all(
    ledger: Ledger, plan: Plan
) -> None:
    run = plan("a", steps=10)
    metric = Reservation.of("metric", "mail", PoissonGaussian(10.0, 1.0, 8))
    budget = Budget(epsilon=5.0, delta=1e-5, plans=Plans.FIXED)
    room = (budget.spent([MECHANISM]) + budget.spent([MECHANISM, metric.uses[0].mechanism])) / 2
    ledger.set_budget("mail", Budget(epsilon=room, delta=1e-5, plans=Plans.FIXED))
    with pytest.raises(BudgetError):
        ledger.reserve(run, beside=metric)
    assert not ledger.state.leases
    ledger.set_budget("mail", budget)
    ledger.reserve(run, beside=metric)
    assert charged(ledger, adaptive=False) == 18
    assert [lease.is_settled for lease in ledger.state.leases.values()] == [False, True]
