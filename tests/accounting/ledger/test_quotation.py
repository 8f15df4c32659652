"""A ledger vouches for the runs that it charged, and for no others."""

from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import Adjacency, PoissonGaussian, RunRecord
from dpft.accounting.ledger import Ledger, Reservation, Use
from dpft.accounting.ledger.quotation import charged
from dpft.accounting.run_record import LedgerReference

PLAN = PoissonGaussian(1.0, 0.1, 30)


def record(head: LedgerReference | None, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "run_id": "one",
        "dataset_id": "letters",
        "mechanism": PLAN,
        "adjacency": Adjacency.ADD_OR_REMOVE,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "flat",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "pld",
        "ledger": head,
    }
    return RunRecord(**fields | changes)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger.open(tmp_path / "ledger.sqlite")
    made.reserve(Reservation.of("a run", "letters", PLAN))
    return made


def here(ledger: Ledger) -> LedgerReference:
    return LedgerReference(ledger.head.hash, ledger.head.seq)


def test_a_run_that_was_charged_is_vouched_for(ledger: Ledger) -> None:
    assert charged(ledger.entries(), record(here(ledger)))
    shorter = PoissonGaussian(1.0, 0.1, 20)
    assert charged(ledger.entries(), record(here(ledger), mechanism=shorter))


def test_what_was_charged_as_infinite_covers_every_run(ledger: Ledger) -> None:
    use = Use(dataset="mail", mechanism=None)
    ledger.reserve(Reservation(run_id="another", uses=(use,), steps=1))
    assert charged(ledger.entries(), record(here(ledger), dataset_id="mail"))


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset_id": "mail"},
        {"mechanism": PoissonGaussian(1.0, 0.1, 31)},
        {"mechanism": PoissonGaussian(0.9, 0.1, 30)},
        {"mechanism": None, "private": False},
    ],
)
def test_a_ledger_that_charged_something_else_does_not_vouch_for_a_run(
    ledger: Ledger, changes: dict[str, Any]
) -> None:
    assert not charged(ledger.entries(), record(here(ledger), **changes))


def test_what_is_charged_after_the_head_was_quoted_is_too_late(ledger: Ledger) -> None:
    before = here(ledger)
    ledger.reserve(Reservation.of("another", "mail", PLAN))
    assert not charged(ledger.entries(), record(before, dataset_id="mail"))
    assert charged(ledger.entries(), record(here(ledger), dataset_id="mail"))


def test_a_head_that_is_not_there_is_not_vouched_for(ledger: Ledger) -> None:
    assert not charged(ledger.entries(), record(LedgerReference("0f" * 32, 2)))
    assert not charged(ledger.entries(), record(None))


def test_what_was_given_back_is_not_vouched_for(ledger: Ledger) -> None:
    quoted = here(ledger)
    ledger.intend("a run", ledger.attach("a run"), 20)
    ledger.settle("a run")
    begun = PoissonGaussian(1.0, 0.1, 20)
    assert charged(ledger.entries(), record(quoted, mechanism=begun))
    assert not charged(ledger.entries(), record(quoted))
    ledger.reserve(Reservation.of("another", "mail", PLAN))
    ledger.cancel("another", "there is no such model")
    assert not charged(ledger.entries(), record(here(ledger), dataset_id="mail", mechanism=begun))
