"""Entries of a ledger: numbered, in canonical JSON, each with the hash of the one before.

Whoever edits an entry must also edit all that follow; the head that a certificate quotes then no
longer stands in the ledger. No file is read or written in here.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from dpft.accounting.errors import ConfigurationError

__all__ = ["START", "Entry", "Head", "canonical"]

_HEAD = re.compile(r"([0-9a-f]{64}):([0-9]+)")


@dataclasses.dataclass(frozen=True)
class Head:
    """Where a ledger stood: its last entry.

    Args:
        hash: SHA-256 of that entry, in hexadecimal digits.
        seq: Number of that entry, >= 0.

    Privacy:
        Nothing, no data touched: entries hold public numbers and names.

    Example:
        >>> str(Head("0" * 64, 7)).endswith("0:7")
        True
    """

    hash: str
    seq: int

    def __str__(self) -> str:
        return f"{self.hash}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Read what a certificate quotes, ``HASH:SEQ``.

        Args:
            text: 64 hexadecimal digits, a colon, a number.

        Raises:
            ConfigurationError: If it looks otherwise.

        Privacy:
            Nothing, no data touched.
        """
        found = _HEAD.fullmatch(text.strip())
        if found is None:
            raise ConfigurationError(
                f"Expected head={text!r} to be HASH:SEQ. It says which entry a certificate saw "
                "last. Copy it from the certificate."
            )
        return cls(found[1], int(found[2]))


START = Head("0" * 64, 0)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a ledger.

    Args:
        seq: Its number, 1, 2, ...
        kind: What happened.
        payload: Canonical JSON of the particulars.
        previous: Hash of the entry before; zeros for the first.
        hash: Hash of this one.

    Privacy:
        Public numbers and names; no record and no digest of one.
    """

    seq: int
    kind: str
    payload: str
    previous: str
    hash: str

    @classmethod
    def after(cls, head: Head, kind: str, fields: Mapping[str, Any]) -> "Entry":
        """Return the entry that follows a head.

        Args:
            head: Where the ledger stands.
            kind: What happens.
            fields: JSON values.

        Privacy:
            Nothing, no data touched.
        """
        seq, payload = head.seq + 1, canonical(fields)
        return cls(seq, kind, payload, head.hash, _hash(seq, kind, payload, head.hash))

    @property
    def head(self) -> Head:
        """Where a ledger stands whose last entry this is."""
        return Head(self.hash, self.seq)

    @property
    def fields(self) -> dict[str, Any]:
        """The particulars."""
        values: dict[str, Any] = json.loads(self.payload)
        return values

    def follows(self, head: Head) -> bool:
        """Return whether it may stand after a head: number, link and hash all fit.

        Privacy:
            Nothing, no data touched (`tests/accounting/ledger/test_chain.py`).
        """
        own = _hash(self.seq, self.kind, self.payload, self.previous)
        return (self.seq, self.previous, self.hash) == (head.seq + 1, head.hash, own)


def canonical(fields: Mapping[str, Any]) -> str:
    """Write JSON such that equal values give equal text.

    Args:
        fields: JSON values; no infinity and no NaN.

    Privacy:
        Nothing, no data touched.
    """
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(seq: int, kind: str, payload: str, previous: str) -> str:
    text = json.dumps([seq, kind, payload, previous], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
