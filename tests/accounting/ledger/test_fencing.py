"""One process at a time may charge a run: whoever attached last."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import Ledger, Reservation

Plan = Callable[..., Reservation]


def test_a_stale_process_cannot_charge_another_step(path: Path, plan: Plan) -> None:
    with Ledger.open(path) as one, Ledger.open(path) as other:
        one.reserve(plan("a"))
        stale = one.attach("a")
        one.intend("a", stale, upto=1)
        token = other.attach("a")
        assert token == stale + 1
        with pytest.raises(LedgerError, match="Another process"):
            one.intend("a", stale, upto=2)
        with pytest.raises(LedgerError, match="Another process"):
            one.settle("a", stale)
        other.intend("a", token, upto=2)
        assert one.state.lease("a").intended == 2


def test_a_process_whose_run_was_settled_cannot_charge_another_step(path: Path, plan: Plan) -> None:
    with Ledger.open(path) as one, Ledger.open(path) as other:
        one.reserve(plan("a"))
        token = one.attach("a")
        other.settle("a")
        with pytest.raises(LedgerError, match="settled"):
            one.intend("a", token, upto=1)


@pytest.mark.parametrize("upto", [0, 1, 2, 11])
def test_steps_are_charged_once_in_order_and_only_if_reserved(
    ledger: Ledger, plan: Plan, upto: int
) -> None:
    ledger.reserve(plan("a"))
    token = ledger.attach("a")
    ledger.intend("a", token, upto=2)
    with pytest.raises(LedgerError, match=f"upto={upto}"):
        ledger.intend("a", token, upto=upto)
    assert ledger.state.lease("a").intended == 2


def test_nothing_is_charged_before_a_process_attached(ledger: Ledger, plan: Plan) -> None:
    ledger.reserve(plan("a"))
    with pytest.raises(LedgerError, match="token=0"):
        ledger.intend("a", 0, upto=1)


def test_a_run_that_was_never_reserved_is_unknown(ledger: Ledger) -> None:
    for call in (ledger.attach, ledger.settle):
        with pytest.raises(LedgerError, match="to be reserved"):
            call("a")


def test_a_name_is_reserved_once(ledger: Ledger, plan: Plan) -> None:
    ledger.reserve(plan("a"))
    with pytest.raises(LedgerError, match="of a new run"):
        ledger.reserve(plan("a"))
    assert len(ledger.state.leases) == 1
