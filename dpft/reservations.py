"""What is reserved in a ledger for a run, and for what is released beside it. No torch in here."""

import dataclasses
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpft.accounting.ledger import DigestKey, Ledger, RecordDigests, Reservation, Use
from dpft.accounting.mechanisms import Mechanism
from dpft.privacy import PrivacyPlan

__all__ = [
    "Beside",
    "declare_disjoint",
    "digests_of",
    "kept_open",
    "release_beside",
    "reservation_of",
    "use_of",
]

_NAME_BYTES = 16
_Records = Iterable[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
    """What is released once with a run, such as a metric.

    Args:
        mechanism: What will be released.
        dataset_id: Name of the data set it is taken on.
        records: Its records; unset: they count as overlapping with every data set.
        disjoint_rule: Public rule that keeps its records apart from those of the run.

    Privacy:
        Holds raw records.
    """

    mechanism: Mechanism
    dataset_id: str
    records: _Records | None = dataclasses.field(default=None, repr=False)
    disjoint_rule: str | None = None


def reservation_of(plan: PrivacyPlan, records: RecordDigests, *, secret: bool) -> Reservation:
    """Return the reservation of a new run: all its steps.

    Args:
        plan: The plan of the run.
        records: Digests of its records.
        secret: Whether its randomness is secret.

    Privacy:
        Nothing, no data touched.
    """
    use = use_of(plan, records, secret=secret)
    return Reservation(run_id=secrets.token_hex(_NAME_BYTES), uses=(use,), steps=plan.length.steps)


def release_beside(ledger: Ledger, trained: Iterable[str], release: Beside) -> Reservation:
    """Return the reservation of a release beside a run, told apart from it first.

    Args:
        ledger: An open ledger.
        trained: Names of the data sets of the run.
        release: What is released.

    Privacy:
        Records are read for keyed digests, which stay in the ledger.
    """
    name = release.dataset_id
    if release.disjoint_rule is not None:
        for other in trained:
            if other != name:
                declare_disjoint(ledger, other, name, release.disjoint_rule)
    digests = None if release.records is None else digests_of(ledger.path, release.records)
    return Reservation.of(secrets.token_hex(_NAME_BYTES), name, release.mechanism, digests)


@contextmanager
def kept_open(path: Path) -> Iterator[Ledger]:
    """Open a ledger, and close it again only if something fails.

    Args:
        path: File of the ledger; made if absent.

    Privacy:
        Nothing, no data touched.
    """
    ledger = Ledger.open(path)
    try:
        yield ledger
    except BaseException:
        ledger.close()
        raise


def declare_disjoint(ledger: Ledger, one: str, other: str, rule: str) -> None:
    """Record a public rule that keeps two data sets apart, unless it stands there already.

    Args:
        ledger: An open ledger.
        one: Name of a data set.
        other: Name of another.
        rule: The rule, in words.

    Privacy:
        As `Ledger.declare_disjoint`.
    """
    if ledger.state.rules.get(frozenset((one, other))) != rule:
        ledger.declare_disjoint(one, other, rule)


def use_of(plan: PrivacyPlan, records: RecordDigests | None = None, *, secret: bool) -> Use:
    """Return what a run does to its data set.

    Args:
        plan: The plan of the run.
        records: Digests of its records.
        secret: Whether its randomness is secret; pinned randomness leaves no privacy.

    Privacy:
        Nothing, no data touched.
    """
    mechanism = plan.mechanism() if plan.is_private and secret else None
    return Use(dataset=plan.privacy.dataset_id, mechanism=mechanism, records=records)


def digests_of(path: Path, records: _Records) -> RecordDigests:
    """Return keyed digests of records, by the key of this machine.

    Args:
        path: File of the ledger they are for.
        records: The records.

    Privacy:
        For the ledger alone (`tests/accounting/ledger/test_record_digests.py`).
    """
    return DigestKey.load(path).digests(records)
