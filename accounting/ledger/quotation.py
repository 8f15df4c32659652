"""Whether a ledger charged the run that quotes it in a certificate."""

from collections.abc import Iterator, Sequence

from dpft.accounting.dataset_use import DatasetUse
from dpft.accounting.ledger.chain import Entry
from dpft.accounting.mechanisms import Mechanism, first_steps, mechanism_from_json, steps_of
from dpft.accounting.run_record import RunRecord

__all__ = ["charged"]

_CHARGES = {"release", "reserve"}


def charged(entries: Sequence[Entry], run: RunRecord) -> bool:
    """Return whether a ledger has the entry that a run names, and charged it by then.

    Args:
        entries: All entries of the ledger, checked.
        run: A run of a certificate.

    Returns:
        True if the head is there, and up to it something at least as costly as the run was charged
        to each of its data sets, and not given back since: the same mechanism, with as many steps
        or more, or none at all, which is charged infinity.

    Privacy:
        Nothing, no data touched. That two certificates quote one charge is not found
        (`test_a_ledger_that_charged_something_else_does_not_vouch_for_a_run`,
        `test_what_was_given_back_is_not_vouched_for`).
    """
    reference = run.ledger
    if reference is None:
        return False
    heads = {(entry.hash, entry.seq) for entry in entries}
    uses = list(_uses(entries, reference.entry))
    return (reference.head, reference.entry) in heads and all(
        any(dataset in names and _covers(mechanism, run.mechanism) for dataset, mechanism in uses)
        for names in map(_names, run.touched)
    )


def _names(use: DatasetUse) -> set[str]:
    """Return the names a ledger may charge it under: a part has one of its own, or the whole's."""
    part = set() if use.partition is None else {f"{use.dataset_id}, {use.partition.part}"}
    return {use.dataset_id} | part


def _uses(entries: Sequence[Entry], last: int) -> Iterator[tuple[str, Mechanism | None]]:
    """Yield what was charged up to an entry, without steps that no process began before the end."""
    begun = {
        entry.fields["run_id"]: entry.fields["intended"]
        for entry in entries
        if entry.kind == "settle"
    }
    for entry in entries:
        if entry.kind in _CHARGES and entry.seq <= last:
            steps = begun.get(entry.fields["run_id"], entry.fields["steps"])
            for use in entry.fields["uses"] if steps else ():
                fields = use["mechanism"]
                planned = None if fields is None else mechanism_from_json(fields)
                yield use["dataset"], None if planned is None else first_steps(planned, steps)


def _covers(planned: Mechanism | None, ran: Mechanism | None) -> bool:
    if planned is None or planned == ran:
        return True
    if ran is None or type(planned) is not type(ran) or steps_of(planned) < steps_of(ran):
        return False
    return first_steps(planned, steps_of(ran)) == ran
