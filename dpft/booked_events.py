"""Events in a ledger: charged in full before they happen, and never given back. No torch in here.

A choice among several runs is one event, and so is a release that no run belongs to.
"""

import dataclasses
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpft.accounting.ledger import Reservation, Use
from dpft.accounting.mechanisms import Mechanism, steps_of
from dpft.booking import Booking
from dpft.reservations import declare_disjoint, digests_of, kept_open

__all__ = ["Apart", "book_event"]

_NAME_BYTES = 16
_Records = Iterable[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Apart:
    """What an event does to records that are no training records.

    Args:
        mechanism: Everything that will be released of them.
        dataset_id: Name of their data set.
        records: The records.
        rule: Public rule that keeps them apart from those the event trains on.

    Privacy:
        Holds raw records.
    """

    mechanism: Mechanism
    dataset_id: str
    records: _Records = dataclasses.field(repr=False)
    rule: str


def book_event(
    mechanism: Mechanism,
    dataset_id: str,
    path: Path,
    *,
    records: _Records | None = None,
    apart: Apart | None = None,
) -> Booking:
    """Charge an event that happens as a whole, such as a choice among several runs, in full.

    Args:
        mechanism: Everything that will be released.
        dataset_id: Name of the data set.
        path: File of the ledger; made if absent.
        records: Its records; unset: they count as overlapping with every data set.
        apart: What it does to other records; all is charged together, or nothing is.

    Returns:
        The booking; nothing more has to be charged, and nothing is ever given back.

    Raises:
        BudgetError: If a budget would be exceeded.
        LedgerError: If the ledger cannot be read, trusted or written.

    Privacy:
        A crash leaves all of it charged (`tests/dpft/test_booking.py`).
    """
    digests = None if records is None else digests_of(path, records)
    name = secrets.token_hex(_NAME_BYTES)
    uses = [Use(dataset=dataset_id, mechanism=mechanism, records=digests)]
    if apart is not None:
        found = digests_of(path, apart.records)
        uses.append(Use(dataset=apart.dataset_id, mechanism=apart.mechanism, records=found))
    reservation = Reservation(run_id=name, uses=tuple(uses), steps=steps_of(mechanism))
    with kept_open(path) as ledger:
        if apart is not None:
            declare_disjoint(ledger, dataset_id, apart.dataset_id, apart.rule)
        ledger.release(reservation)
        return Booking(ledger, name, is_new=False)
