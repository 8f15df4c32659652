"""Runs over a budget are refused, and the message says what would fit."""

import math
import re
from collections.abc import Callable

import pytest

from dpft.accounting import (
    Adjacency,
    PoissonGaussian,
    calibrate_noise_multiplier,
    epsilon,
)
from dpft.accounting.errors import BudgetError, ConfigurationError
from dpft.accounting.ledger import Budget, Ledger, Plans, Reservation, Use

Plan = Callable[..., Reservation]
BUDGET = Budget(epsilon=3.0, delta=1e-5)


def refused(ledger: Ledger, reservation: Reservation) -> str:
    before = ledger.head
    with pytest.raises(BudgetError) as caught:
        ledger.reserve(reservation)
    assert ledger.head == before
    assert reservation.run_id not in ledger.state.leases
    return str(caught.value)


def suggested(message: str, field: str) -> float:
    found = re.search(rf"{field}=([0-9]+[.]?[0-9]*)", message.partition("What would fit")[2])
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("plans", Plans)
def test_what_is_suggested_fits_and_little_less_does_not(
    ledger: Ledger, plan: Plan, plans: Plans
) -> None:
    ledger.set_budget("mail", Budget(epsilon=3.0, delta=1e-5, plans=plans))
    ledger.reserve(plan("before", noise_multiplier=20.0, steps=20))
    message = refused(ledger, plan("a", noise_multiplier=5.0, steps=50))
    noise, steps = suggested(message, "noise_multiplier"), suggested(message, "steps")
    refused(ledger, plan("b", noise_multiplier=noise * 0.98, steps=50))
    refused(ledger, plan("c", noise_multiplier=5.0, steps=int(steps) + 1))
    spare = ledger.state.copy()
    ledger.reserve(plan("d", noise_multiplier=noise, steps=50))
    assert "d" not in spare.leases
    ledger.settle("d")
    if plans is Plans.ADAPTIVE:
        ledger.reserve(plan("e", noise_multiplier=5.0, steps=int(steps)))


def test_the_message_says_what_is_spent_and_left(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("before", steps=10))
    message = refused(ledger, plan("a", steps=100))
    used = math.ceil(1000 * BUDGET.share([PoissonGaussian(10.0, 1.0, 10)])) / 10
    assert f"Used up so far: {used:g} % of it, left: {100 - used:g} %" in message
    ledger.set_budget("post", Budget(epsilon=3.0, delta=1e-5, plans=Plans.FIXED))
    ledger.declare_disjoint("mail", "post", "two systems")
    ledger.reserve(plan("b", "post", steps=10))
    spent = epsilon(PoissonGaussian(10.0, 1.0, 10), 1e-5)
    message = refused(ledger, plan("c", "post", steps=100))
    assert f"Spent so far: {spent:.4g}, left: {3 - spent:.4g}" in message


def test_the_message_names_a_target_that_fits(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", BUDGET)
    message = refused(ledger, plan("a", steps=100))
    target = suggested(message, "privacy.epsilon")
    assert 2.3 < target < 3.0
    noise = calibrate_noise_multiplier(epsilon=target, delta=1e-5, sample_rate=1.0, steps=100)
    ledger.reserve(plan("b", noise_multiplier=noise, steps=100))


def test_plans_are_not_suggested_to_be_fixed_after_an_output(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", BUDGET)
    assert "--plans fixed" in refused(ledger, plan("a", steps=45))
    ledger.reserve(plan("before", noise_multiplier=1000.0, steps=1))
    ledger.intend("before", ledger.attach("before"), upto=1)
    assert "--plans fixed" not in refused(ledger, plan("a", steps=45))


def test_fixed_plans_are_named_where_they_may_fit_alone(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("two words", BUDGET)
    message = refused(ledger, plan("a", dataset="two words", steps=45))
    command = f"dpft ledger budget 'two words' --ledger {ledger.path} --plans fixed"
    assert command in message
    assert "--plans fixed" not in refused(ledger, plan("b", dataset="two words", steps=100))


def test_what_is_not_a_number_fits_no_budget(
    ledger: Ledger, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.set_budget("mail", BUDGET)
    path = "dpft.accounting.ledger.privacy_filter._divergences"
    monkeypatch.setattr(path, lambda *_: float("nan"))
    assert "epsilon=nan" in refused(ledger, plan("a", steps=1))


def test_without_a_budget_everything_is_charged_and_nothing_refused(
    ledger: Ledger, plan: Plan
) -> None:
    for name in ("a", "b"):
        ledger.reserve(plan(name, noise_multiplier=0.01, steps=1000))
    use = Use(dataset="mail", mechanism=None)
    ledger.reserve(Reservation(run_id="open", uses=(use,), steps=5))
    assert len(ledger.state.leases) == 3


def test_a_run_without_privacy_is_refused_where_there_is_a_budget(ledger: Ledger) -> None:
    ledger.set_budget("mail", Budget(epsilon=1e6, delta=0.5))
    use = Use(dataset="mail", mechanism=None)
    message = refused(ledger, Reservation(run_id="open", uses=(use,), steps=5))
    assert "privacy.mode=private" in message


def test_a_run_without_privacy_uses_up_a_budget_that_is_set_later(
    ledger: Ledger, plan: Plan
) -> None:
    use = Use(dataset="mail", mechanism=None)
    ledger.reserve(Reservation(run_id="open", uses=(use,), steps=5))
    ledger.set_budget("mail", Budget(epsilon=1e6, delta=0.5))
    assert "No other noise or length" in refused(ledger, plan("a"))


def test_a_budget_below_what_is_spent_blocks_and_a_larger_one_opens(
    ledger: Ledger, plan: Plan
) -> None:
    ledger.reserve(plan("a", steps=50))
    ledger.set_budget("mail", Budget(epsilon=0.5, delta=1e-5))
    refused(ledger, plan("b", noise_multiplier=100.0, steps=1))
    ledger.set_budget("mail", Budget(epsilon=8.0, delta=1e-5))
    ledger.reserve(plan("b", noise_multiplier=100.0, steps=1))
    kinds = [entry.kind for entry in ledger.entries()]
    assert kinds == ["ledger", "reserve", "budget", "budget", "reserve"]


def test_several_data_sets_are_reserved_together_or_not_at_all(ledger: Ledger) -> None:
    ledger.declare_disjoint("mail", "calls", "two systems")
    ledger.set_budget("calls", Budget(epsilon=0.1, delta=1e-5))
    mechanism = PoissonGaussian(10.0, 1.0, 10)
    uses = tuple(Use(dataset=name, mechanism=mechanism) for name in ("mail", "calls"))
    refused(ledger, Reservation(run_id="both", uses=uses, steps=10))
    assert not ledger.state.leases
    ledger.set_budget("calls", BUDGET)
    lease = ledger.reserve(Reservation(run_id="both", uses=uses, steps=10))
    assert lease.datasets == ("mail", "calls")


def test_data_sets_of_one_run_must_be_disjoint(
    ledger: Ledger, digests: Callable[..., object]
) -> None:
    mechanism = PoissonGaussian(10.0, 1.0, 10)
    uses = tuple(
        Use(dataset=name, mechanism=mechanism, records=digests(*texts))  # type: ignore[arg-type]
        for name, texts in (("mail", ("x", "y")), ("calls", ("y", "z")))
    )
    reservation = Reservation(run_id="both", uses=uses, steps=10)
    with pytest.raises(ConfigurationError, match="enter a noisy sum twice"):
        ledger.reserve(reservation)
    ledger.declare_disjoint("mail", "calls", "the shared text is a greeting of the system")
    ledger.reserve(reservation)


def test_charges_that_cannot_be_added_up_are_refused(ledger: Ledger, plan: Plan) -> None:
    ledger.set_budget("mail", BUDGET)
    ledger.reserve(plan("a"))
    other = PoissonGaussian(10.0, 1.0, 10, Adjacency.ZERO_OUT)
    assert "adjacency" in refused(ledger, Reservation.of("b", "mail", other))


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    mechanism = PoissonGaussian(10.0, 1.0, 10)
    use = Use(dataset="mail", mechanism=mechanism)
    for uses, steps in (((), 10), ((use, use), 10), ((use,), 11), ((use,), 0)):
        with pytest.raises(ConfigurationError, match="charged as it was planned"):
            Reservation(run_id="a", uses=uses, steps=steps)
    with pytest.raises(ConfigurationError, match="to be a name"):
        Use(dataset=" ", mechanism=mechanism)
