"""Digests by which a ledger notices that two data sets share records, and the key to make them.

A digest is an HMAC-SHA256 of the record's strings, cut to 8 bytes, under a key that stays on this
machine: whoever has the ledger without the key cannot test who is in a data set. Limits: the same
person in other words, in another encoding or under another key is another record here.
"""

import dataclasses
import datetime as dt
import decimal
import functools
import hashlib
import hmac
import json
import os
import secrets
import stat
import unicodedata
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpft.accounting.errors import LedgerError

__all__ = ["DIGEST_BYTES", "DigestKey", "RecordDigests", "private_folder", "would_travel_together"]

DIGEST_BYTES = 8
_KEY_BYTES = 32
_FILE = "record-digests.key"
_VARIABLE = "DPFT_PRIVATE"


@dataclasses.dataclass(frozen=True)
class RecordDigests:
    """The records of a data set, as a set without order.

    Args:
        key_id: Public name of the key; sets under different keys cannot be compared.
        digests: One digest of `DIGEST_BYTES` for each record.

    Privacy:
        Whoever has the key as well can test who is in the data set. Kept in the ledger's own table,
        never exported or published (`tests/accounting/ledger/test_record_digests.py`).
    """

    key_id: str
    digests: frozenset[bytes] = dataclasses.field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the digests in sorted order, one after the other.

        Privacy:
            As the class.
        """
        return b"".join(sorted(self.digests))

    @classmethod
    def from_bytes(cls, key_id: str, digests: bytes) -> "RecordDigests":
        """Read what `to_bytes` wrote.

        Args:
            key_id: Public name of the key.
            digests: Digests one after the other.

        Privacy:
            As the class.
        """
        starts = range(0, len(digests), DIGEST_BYTES)
        return cls(key_id, frozenset(digests[start : start + DIGEST_BYTES] for start in starts))


@dataclasses.dataclass(frozen=True)
class DigestKey:
    """The local key.

    Args:
        secret: 32 random bytes.

    Privacy:
        Never leaves its file (mode 0600).
    """

    secret: bytes = dataclasses.field(repr=False)

    @functools.cached_property
    def key_id(self) -> str:
        """Public name of the key, which says nothing about it."""
        return hashlib.sha256(b"dpft key id\0" + self.secret).hexdigest()[:16]

    def digests(self, records: Iterable[Mapping[str, Any]]) -> RecordDigests:
        """Digest records, each for itself.

        Args:
            records: Rows by column. A row is its texts, in Unicode's composed form, with runs of
                white space as one space, in any order of columns; a row without texts is all of it.

        Returns:
            The set of digests; repeated records count once.

        Privacy:
            Keyed: nothing about a record can be tested without the key.
        """
        cut = (
            hmac.digest(self.secret, _canonical(record), "sha256")[:DIGEST_BYTES]
            for record in records
        )
        return RecordDigests(self.key_id, frozenset(cut))

    @classmethod
    def load(cls, ledger: Path, folder: Path | None = None) -> "DigestKey":
        """Read the key of this machine; the first call makes it.

        Args:
            ledger: File of the ledger; the key lies nowhere in its folder, unless that holds all
                of the user's home.
            folder: Where the key lies; unset: `private_folder()`.

        Raises:
            LedgerError: If the key would lie in the ledger's folder, can be read by others, or
                cannot be read or made.

        Privacy:
            Folder 0700, file 0600. A copy of the ledger's folder does not hold the key, unless that
            holds the home (`tests/accounting/ledger/test_record_digests.py`).
        """
        place = private_folder() if folder is None else folder
        if would_travel_together(place.resolve(), ledger.resolve().parent):
            raise LedgerError(
                f"Expected ledger={ledger} and the key of the record digests to lie in different "
                f"folders, not the key in {place}. Together they tell who is in a data set. Set "
                f"{_VARIABLE} to a private folder."
            )
        try:
            return cls(_read_or_make(place))
        except OSError as error:
            raise LedgerError(
                f"Expected {place} to hold the key of the record digests ({error.strerror}). "
                "Without it nobody notices that two data sets share records. Set "
                f"{_VARIABLE} to a folder that can be written."
            ) from error


def would_travel_together(place: Path, ledgers: Path) -> bool:
    """Return whether a copy of a ledger's folder would hold the key.

    Args:
        place: Folder of the key, resolved.
        ledgers: Folder of the ledger, resolved.

    Privacy:
        Nothing, no data touched.
    """
    holds_home = place != ledgers and Path.home().resolve().is_relative_to(ledgers)
    return place.is_relative_to(ledgers) and not holds_home


def private_folder() -> Path:
    """Return the folder of the key: `$DPFT_PRIVATE`, else dpft in the user's folder of states.

    Privacy:
        Nothing, no data touched.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        return Path(named).expanduser()
    states = os.environ.get("XDG_STATE_HOME")
    return (Path(states) if states else Path.home() / ".local" / "state") / "dpft"


def _canonical(record: Mapping[str, Any]) -> bytes:
    texts = sorted(
        " ".join(unicodedata.normalize("NFC", value).split())
        for value in record.values()
        if isinstance(value, str)
    )
    whole = texts or {str(name): _plain(value) for name, value in record.items()}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """Return JSON values; arrays and tensors as lists."""
    return _plain(value.tolist()) if hasattr(value, "tolist") else _listed(value)


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | dt.date | decimal.Decimal | uuid.UUID):
        return repr(value)
    raise LedgerError(
        f"Expected a record of texts, numbers and lists, got {type(value).__name__}. What cannot "
        "be compared cannot be found in another data set. Give plain values."
    )


def _read_or_make(folder: Path) -> bytes:
    path = folder / _FILE
    if not path.exists():
        _make(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise LedgerError(
            f"Expected {path} to be readable by its owner alone, got mode {mode:04o}. Whoever has "
            "the key and the ledger can test who is in a data set. Run chmod 600 on it."
        )
    secret = path.read_bytes()
    if len(secret) != _KEY_BYTES:
        raise LedgerError(
            f"Expected {path} to hold {_KEY_BYTES} bytes. A damaged key finds no shared records. "
            "Restore it, or remove it: data sets then count as overlapping unless told apart."
        )
    return secret


def _make(path: Path) -> None:
    """Make the key whole or not at all; of two processes one is first, and both use its key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
