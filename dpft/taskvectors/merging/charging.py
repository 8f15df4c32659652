"""What a merge costs that looks at private records: charged first, certified afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpft.accounting import Mechanism, RunRecord, epsilon
from dpft.accounting.mechanisms import unit_of
from dpft.accounting.run_record import LedgerReference
from dpft.booked_events import book_event
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.ledger_place import VARIABLE, named_ledger
from dpft.taskvectors.merging.data import Private
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import MergeMethod, PrivateForm
from dpft.taskvectors.vector import TaskVector

__all__ = ["merged_privately"]


def merged_privately(
    method: MergeMethod, vectors: Sequence[TaskVector], options: MergeOptions, data: Private
) -> TaskVector:
    """Charge what a method is about to release of private records, merge, and certify it.

    Args:
        method: One with a private form.
        vectors: At least one.
        options: Weights and the like.
        data: Whose records, and what looking at them may cost.

    Returns:
        The merged vector, whose certificate holds the release and where the ledger charged it.

    Raises:
        BrokenGuaranteeError: If the method would spend more than the data allow.
        BudgetError: If the budget of the data set would be exceeded.
        ConfigurationError: If no ledger is named.
        LedgerError: If the ledger cannot be read, trusted or written.

    Privacy:
        The method is called once the whole release is charged, and nothing is given back. Before,
        records are read for keyed digests alone, which stay in the ledger
        (`test_a_private_method_over_budget_sees_no_record`).
    """
    form = method.private_form
    assert form is not None, "it was checked before"
    mechanism = form.mechanism(vectors, options, data)
    _refuse_more_than_allowed(method, mechanism, data)
    rows = _rows(data.records)
    with book_event(mechanism, data.dataset_id, _place(data), records=rows) as booking:
        merged = method.rule(vectors, options, data)
        return merged.with_release(
            _record(form, mechanism, data, (booking.run_id, booking.reference))
        )


def _refuse_more_than_allowed(method: MergeMethod, mechanism: Mechanism, data: Private) -> None:
    spent = epsilon(mechanism, data.delta)
    if not spent <= data.epsilon:
        raise BrokenGuaranteeError(
            f"Expected epsilon={spent:.4g} of method={method.name} <= {data.epsilon:g} at delta="
            f"{data.delta:g}, what the data allow. It would release more than was agreed to. Allow "
            "more, or choose another method."
        )


def _place(data: Private) -> Path:
    place = named_ledger(data.ledger)
    if place is None:
        raise ConfigurationError(
            f"Expected data.ledger or {VARIABLE} to name a ledger. A release of data set "
            f"{data.dataset_id} that is charged nowhere is counted by nobody. Name the ledger of "
            "the runs on it."
        )
    return place


def _rows(records: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """Yield records as rows by column; a single value is compared as a row that holds it."""
    for record in records:
        yield record if isinstance(record, Mapping) else {"record": record}


def _record(
    form: PrivateForm, mechanism: Mechanism, data: Private, charged: tuple[str, LedgerReference]
) -> RunRecord:
    run_id, reference = charged
    return RunRecord(
        run_id=run_id,
        dataset_id=data.dataset_id,
        mechanism=mechanism,
        unit=unit_of(mechanism),
        adjacency=mechanism.adjacency,
        num_records=None,
        expected_batch_size=None,
        clipping=form.bound,
        clip_norm=None,
        delta=data.delta,
        private=True,
        generator=form.generator,
        sampler="all records, once",
        accountant="pld",
        ledger=reference,
    )
