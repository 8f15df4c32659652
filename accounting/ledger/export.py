"""A ledger as lines of JSON, to be kept elsewhere or read by other tools."""

import dataclasses
import json
from pathlib import Path

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger.ledger import Ledger

__all__ = ["export"]


def export(ledger: Ledger, path: Path) -> int:
    """Write all entries, one on a line.

    Args:
        ledger: The ledger.
        path: A file that does not exist yet.

    Returns:
        Number of entries.

    Raises:
        LedgerError: If the file exists or cannot be written.

    Privacy:
        Public numbers and names. Digests of records are left out: the entries hold salted hashes
        of them alone, which say nothing without the digests
        (`test_an_export_holds_no_digest_of_a_record`).
    """
    entries = ledger.entries()
    lines = [json.dumps(dataclasses.asdict(entry), sort_keys=True) for entry in entries]
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise LedgerError(
            f"Expected {path} to be a new file ({error.strerror}). An export never replaces "
            "another. Choose another name."
        ) from error
    return len(entries)
