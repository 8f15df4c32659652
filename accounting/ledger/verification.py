"""Whether a ledger is what was written: everything is computed again from its entries."""

import dataclasses
import hashlib

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger.chain import Head
from dpft.accounting.ledger.ledger import Ledger
from dpft.accounting.ledger.schema import STATEMENTS

__all__ = ["Verdict", "verify"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was verified.

    Args:
        entries: Number of entries, each of which follows the one before.
        head: The last one.
        quoted: Whether a head that was quoted elsewhere stands in the ledger; None: none was given.

    Privacy:
        Public.
    """

    entries: int
    head: Head
    quoted: bool | None


def verify(ledger: Ledger, quoted: Head | None = None) -> Verdict:
    """Check chain, meaning, digests, tables and triggers of a ledger.

    Args:
        ledger: Just opened: all its entries were read and checked by that.
        quoted: Head in a certificate; without one nobody can tell that the end was cut off, or
            that somebody wrote the whole chain anew.

    Returns:
        What was verified.

    Raises:
        LedgerError: If anything was edited, added, removed, or cut off before the quoted head.

    Privacy:
        Nothing, no data touched (`tests/accounting/ledger/test_tampering.py`).
    """
    state = ledger.state
    _check_schema(ledger)
    _check_digests(ledger)
    if quoted is not None:
        _check_quoted(ledger, quoted)
    return Verdict(state.head.seq, state.head, None if quoted is None else True)


def _check_schema(ledger: Ledger) -> None:
    if ledger.schema() != set(STATEMENTS):
        raise LedgerError(
            f"Expected ledger={ledger.path} to have the tables and triggers it was made with. "
            "Without them entries can be removed. Restore the ledger from a copy."
        )


def _check_digests(ledger: Ledger) -> None:
    expected = {
        (seq, name, commitment.key_id, commitment.salted_hash)
        for (seq, name), commitment in ledger.state.commitments.items()
    }
    rows = ledger.stored_digests()
    found = {
        (row.seq, row.dataset, row.key_id, hashlib.sha256(row.salt + row.digests).hexdigest())
        for row in rows
    }
    if expected != found or len(rows) != len(expected):
        raise LedgerError(
            f"Expected the record digests of ledger={ledger.path} to be those its entries state. "
            "Shared records would go unnoticed. Restore the ledger from a copy."
        )


def _check_quoted(ledger: Ledger, quoted: Head) -> None:
    heads = {entry.seq: entry.hash for entry in ledger.entries()}
    if heads.get(quoted.seq) != quoted.hash:
        raise LedgerError(
            f"Expected ledger={ledger.path} to hold entry {quoted.seq} with the hash that was "
            f"quoted, it ends at {max(heads)}. Its end was cut off, it was written anew, or it is "
            "another ledger. Restore the newest copy."
        )
