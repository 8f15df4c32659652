"""What is shown and exported of a ledger."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from dpft.accounting import epsilon
from dpft.accounting.errors import ConfigurationError, LedgerError
from dpft.accounting.ledger import (
    Budget,
    Ledger,
    RecordDigests,
    Reservation,
    Use,
    export,
    summarise,
)

Plan = Callable[..., Reservation]
Digests = Callable[..., RecordDigests]


def test_a_data_set_is_summed_up_with_its_runs_and_neighbours(
    ledger: Ledger, plan: Plan, digests: Digests
) -> None:
    budget = Budget(epsilon=8, delta=1e-6)
    ledger.set_budget("mail", budget)
    ledger.reserve(plan("a", "mail", digests("x")))
    ledger.reserve(plan("b", "post", digests("x", "y")))
    ledger.intend("a", ledger.attach("a"), upto=4)
    ledger.settle("a")
    found = summarise(ledger.state, "mail")
    mechanisms = [
        *ledger.state.lease("a").charged("mail", adaptive=True),
        plan("b").uses[0].mechanism,
    ]
    assert found.spent_epsilon == budget.spent(mechanisms)
    assert found.planned_epsilon == epsilon([m for m in mechanisms if m], 1e-6)
    assert found.shares_with == ("post",)
    (run,) = found.runs
    assert (run.intended, run.steps, run.settled, run.private) == (4, 10, True, True)
    assert run.mechanism is not None
    assert run.mechanism["steps"] == 4
    json.dumps(found.to_json(), allow_nan=False)


def test_a_data_set_without_a_budget_has_no_spending_against_one(
    ledger: Ledger, plan: Plan
) -> None:
    ledger.reserve(plan("a"))
    found = summarise(ledger.state, "mail", delta=1e-4)
    assert (found.budget_epsilon, found.spent_epsilon, found.plans) == (None, None, None)
    assert found.delta == 1e-4


def test_a_run_without_privacy_makes_epsilon_infinite(ledger: Ledger) -> None:
    use = Use(dataset="mail", mechanism=None)
    ledger.reserve(Reservation(run_id="a", uses=(use,), steps=2))
    found = summarise(ledger.state, "mail")
    assert found.planned_epsilon == math.inf
    assert found.to_json()["planned_epsilon"] == "infinite"
    assert not found.runs[0].private


def test_an_unknown_data_set_is_refused(ledger: Ledger, plan: Plan) -> None:
    ledger.reserve(plan("a"))
    with pytest.raises(ConfigurationError, match="which has mail"):
        summarise(ledger.state, "males")


def test_an_export_holds_every_entry(ledger: Ledger, plan: Plan, tmp_path: Path) -> None:
    ledger.reserve(plan("a"))
    assert export(ledger, tmp_path / "out.jsonl") == 2
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["hash"] for line in lines] == [entry.hash for entry in ledger.entries()]


def test_an_export_holds_no_digest_of_a_record(
    ledger: Ledger, plan: Plan, digests: Digests, tmp_path: Path
) -> None:
    records = digests("x", "y")
    ledger.reserve(plan("a", "mail", records))
    export(ledger, tmp_path / "out.jsonl")
    text = (tmp_path / "out.jsonl").read_text()
    (row,) = ledger.stored_digests()
    assert row.digests == records.to_bytes()
    secrets = [row.salt.hex(), row.digests.hex(), *(digest.hex() for digest in records.digests)]
    assert not [secret for secret in secrets if secret in text]


def test_an_export_replaces_no_file(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("kept")
    with pytest.raises(LedgerError, match="to be a new file"):
        export(ledger, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "kept"
