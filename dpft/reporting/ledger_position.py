"""What a data set had spent in its ledger before a run was charged, and after it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from dpft.accounting import RunRecord
from dpft.accounting.ledger import Entry, Ledger, summarise
from dpft.accounting.ledger.quotation import charged
from dpft.accounting.ledger.state import State
from dpft.errors import BrokenGuaranteeError, ConfigurationError

__all__ = ["LedgerPosition", "ledger_position"]

_CHARGES = {"release", "reserve"}


@dataclasses.dataclass(frozen=True)
class LedgerPosition:
    """Where a run stands in the ledger of its data set.

    Args:
        dataset: Name of the data set in the ledger.
        delta: At which the epsilons are stated: that of the budget, else that of the run.
        budget: Epsilon of the budget, None if none was set when the run was charged.
        before: Epsilon of all runs charged before, taken as a fixed set; None if no accountant can
            say.
        after: The same with this run.

    Privacy:
        Public numbers and given names.
    """

    dataset: str
    delta: float
    budget: float | None
    before: float | None
    after: float | None


def ledger_position(path: Path, run: RunRecord, reserved_as: str | None) -> LedgerPosition:
    """Look a run up in a ledger.

    Args:
        path: File of the ledger.
        run: The run of a certificate.
        reserved_as: Its name in the ledger.

    Returns:
        What its data set had spent before and after it.

    Raises:
        BrokenGuaranteeError: If the ledger did not charge the run.
        ConfigurationError: If there is no such file, or the run does not say under which name it
            was reserved.
        LedgerError: If the ledger was edited.

    Privacy:
        Nothing, no data touched (`test_the_ledger_is_stated_before_and_after`).
    """
    if not path.is_file():
        raise ConfigurationError(
            f"Expected ledger={path} to exist. There is nothing to compare with. Name the file "
            "that charged the run."
        )
    with Ledger.read(path) as ledger:
        entries = ledger.entries()
    if not charged(entries, run):
        raise BrokenGuaranteeError(
            f"Expected ledger={path} to have charged the run {run.run_id}. Nobody then counts what "
            "it spent. Name the ledger that dpft train printed at its start."
        )
    return _position(entries, run, _reservation(entries, reserved_as))


def _reservation(entries: Sequence[Entry], reserved_as: str | None) -> Entry:
    for entry in entries:
        if entry.kind in _CHARGES and entry.fields["run_id"] == reserved_as:
            return entry
    raise ConfigurationError(
        f"Expected run={reserved_as} to be reserved in the ledger by this name. Where its charge "
        "begins cannot be told. Leave --ledger out: the entry it quotes is stated without it."
    )


def _position(entries: Sequence[Entry], run: RunRecord, reservation: Entry) -> LedgerPosition:
    assert run.ledger is not None, "it was charged by an entry"
    dataset = reservation.fields["uses"][0]["dataset"]
    _, _, before = _spent(entries, reservation.seq - 1, dataset, run.delta)
    delta, budget, after = _spent(entries, run.ledger.entry, dataset, run.delta)
    return LedgerPosition(dataset, delta, budget, before, after)


def _spent(
    entries: Sequence[Entry], last: int, dataset: str, delta: float
) -> tuple[float, float | None, float | None]:
    """Return delta, budget and epsilon of a data set as they were after an entry."""
    state = State()
    for entry in entries:
        if entry.seq <= last:
            state.apply(entry)
    if dataset not in state.datasets:
        return delta, None, 0.0
    summary = summarise(state, dataset, delta)
    return summary.delta, summary.budget_epsilon, summary.planned_epsilon
