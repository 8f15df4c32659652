"""The file of a ledger: one SQLite database, written one entry at a time, durably.

Write-ahead log, `synchronous=FULL`, `BEGIN IMMEDIATE`: when `append` returns, the entry survives a
crash of the process or the machine. What the entries mean is decided in `state`.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger.chain import START, Entry, Head
from dpft.accounting.ledger.file_system import refuse_network
from dpft.accounting.ledger.schema import APPLICATION_ID, FORMAT_VERSION, STATEMENTS

__all__ = ["Store", "StoredDigests"]

_PATIENCE_SECONDS = 60.0
_LOOKS = 5
_ENTRY_TYPES = (int, str, str, str, str)
_DIGEST_TYPES = (int, str, str, bytes, bytes)
_READ = "SELECT seq, kind, payload, previous, hash FROM entries WHERE seq >= ? ORDER BY seq"
_APPEND = "INSERT INTO entries (seq, kind, payload, previous, hash) VALUES (?, ?, ?, ?, ?)"


class StoredDigests(NamedTuple):
    """Digests of records as they stand in the file.

    Args:
        seq: Entry that brought them.
        dataset: Data set they are of.
        key_id: Public name of their key.
        salt: Random bytes of the commitment in that entry.
        digests: Sorted digests, one after the other.
    """

    seq: int
    dataset: str
    key_id: str
    salt: bytes
    digests: bytes


class Store:
    """One open ledger file.

    Args:
        path: The file; a symbolic link is followed, once.
        read_only: Whether nothing will be written.

    Raises:
        LedgerError: If it cannot be opened, is no ledger, has a second name, or lies on a network
            file system.

    Privacy:
        Holds public numbers and names, and keyed digests of records in a table of their own. The
        write-ahead log is found by the name of the file: under two names of one file two runs
        would not see each other's charges (`test_a_ledger_with_two_names_is_refused`).
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open an existing ledger."""
        self.path = path.resolve()
        self._held: tuple[int, int] = (0, 0)
        with self._as_ledger_error("be readable"):
            _refuse_second_name(self.path)
            self._held = _identity(self.path)
            self._connection = _opened(self.path, read_only=read_only)
            try:
                self._prepare(read_only=read_only)
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    def create(cls, path: Path, first: tuple[str, dict[str, object]]) -> "Store":
        """Open a ledger, made first if it is absent.

        Args:
            path: The file; its folder is made if absent.
            first: Kind and particulars of the first entry of a new ledger.

        Raises:
            LedgerError: As the class, or if the file cannot be made.

        Privacy:
            Nothing, no data touched. Of two processes that make the same ledger one wins, and
            both use its file (`tests/accounting/ledger/test_races.py`).
        """
        path = path.resolve()
        if not path.exists():
            with _file_errors(path, "be made"):
                path.parent.mkdir(parents=True, exist_ok=True)
                refuse_network(path.parent)
                _make(path, first)
        return cls(path)

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def entries(self, head: Head) -> list[Entry]:
        """Return the entries that follow a head.

        Args:
            head: Up to where the caller has read.

        Raises:
            LedgerError: If the entry of that head is no longer there, or the file was replaced.

        Privacy:
            Nothing, no data touched.
        """
        with self._as_ledger_error("be readable"):
            self._refuse_another_file()
            rows = self._connection.execute(
                _READ,
                (head.seq,),
            ).fetchall()
        found = [Entry(*row) for row in _typed(self.path, rows, _ENTRY_TYPES)]
        if head == START:
            return found
        if not found or found[0].head != head:
            raise LedgerError(
                f"Expected ledger={self.path} to hold entry {head.seq} as it was read before. "
                "What was charged was taken back. Restore the newest copy of the ledger."
            )
        return found[1:]

    def digests(self) -> list[StoredDigests]:
        """Return all digests.

        Privacy:
            Keyed digests of records; for comparisons within the ledger alone.
        """
        with self._as_ledger_error("be readable"):
            rows = self._connection.execute(
                "SELECT seq, dataset, key_id, salt, digests FROM digests ORDER BY seq, dataset"
            ).fetchall()
        return [StoredDigests(*row) for row in _typed(self.path, rows, _DIGEST_TYPES)]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write; all is kept at the end, or nothing if anything is raised.

        Raises:
            LedgerError: If the disk is full, the file read-only, or others write for too long.

        Privacy:
            What was not kept was not charged, and must not be sampled.
        """
        with self._as_ledger_error("be writable"):
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._as_ledger_error("be writable"):
                self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite itself took everything back
                self._connection.execute("ROLLBACK")
            raise

    def append(self, entry: Entry, digests: Sequence[StoredDigests] = ()) -> None:
        """Add an entry, within `writing`.

        Args:
            entry: The one that follows the last.
            digests: Digests that it brings.

        Privacy:
            As the class.
        """
        with self._as_ledger_error("be writable"):
            self._connection.execute(
                _APPEND,
                (entry.seq, entry.kind, entry.payload, entry.previous, entry.hash),
            )
            self._connection.executemany("INSERT INTO digests VALUES (?, ?, ?, ?, ?)", digests)

    def schema(self) -> set[str]:
        """Return the statements that made tables and triggers.

        Privacy:
            Nothing, no data touched.
        """
        with self._as_ledger_error("be readable"):
            rows = self._connection.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
            ).fetchall()
        return {str(row[0]) for row in rows}

    def _prepare(self, *, read_only: bool) -> None:
        execute = self._connection.execute
        marks = [
            execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        ]
        if marks != [APPLICATION_ID, FORMAT_VERSION]:
            raise LedgerError(
                f"Expected ledger={self.path} to be a ledger of version {FORMAT_VERSION}. Another "
                "file would say nothing about what was charged. Name the right file."
            )
        execute("PRAGMA trusted_schema=OFF")
        if self.schema() != set(STATEMENTS):
            raise LedgerError(
                f"Expected ledger={self.path} to have the tables and triggers of a ledger. Others "
                "could answer with what was never charged, or take it back. Name the right file."
            )
        if read_only:
            return
        refuse_network(self.path.parent)
        mode = execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise LedgerError(
                f"Expected ledger={self.path} to take journal_mode=wal, got {mode}. Without it a "
                "crash could lose what was charged. Use a file on a local disk."
            )
        execute("PRAGMA synchronous=FULL")
        execute("PRAGMA fullfsync=ON")  # on macOS a plain fsync stops at the drive's cache

    def _refuse_another_file(self) -> None:
        """Raise if the path names another file by now: entries would go where nobody looks."""
        if _identity(self.path) != self._held:
            raise LedgerError(
                f"Expected ledger={self.path} to stay in its place. It was moved or replaced, and "
                "what is charged would be lost. Put it back, and resume the run."
            )

    @contextmanager
    def _as_ledger_error(self, rule: str) -> Iterator[None]:
        with _file_errors(self.path, rule):
            yield


def _typed(path: Path, rows: Sequence[Any], types: Sequence[type]) -> Sequence[Any]:
    """Return rows of the stated types; in SQLite a column may hold any, whatever its table says."""
    if all(tuple(map(type, row)) == tuple(types) for row in rows):
        return rows
    raise LedgerError(
        f"Expected ledger={path} to hold numbers and texts where it says so. What was charged "
        "is not known. Restore the ledger from a copy."
    )


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _refuse_second_name(path: Path) -> None:
    """Raise if the file has another name than the drafts that a new ledger is made under."""
    for _ in range(_LOOKS):  # between two looks another process may remove its draft
        names = path.stat().st_nlink
        drafts = sum(_is_same(path, draft) for draft in path.parent.glob(f".{path.name}.*"))
        if names - drafts <= 1:
            return
    raise LedgerError(
        f"Expected ledger={path} to have one name, got {names}: it is a hard link. What is charged "
        "under one name is not seen under the other, so that two runs could spend one budget. "
        f"Remove the other names (find -samefile {path}), and use symbolic links."
    )


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except FileNotFoundError:
        return False


def _opened(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rw"
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    effective = os.access in os.supports_effective_ids
    writable = os.access(path.parent, os.W_OK, effective_ids=effective)
    if read_only and not writable and not _log_of(path).exists():
        uri += "&immutable=1"  # a log cannot be made, and there is none to be read
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE_SECONDS)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _make(path: Path, first: tuple[str, dict[str, object]]) -> None:
    """Make a ledger whole under another name, and give it its own in one stroke."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            _fill(connection, Entry.after(START, *first))
        finally:
            connection.close()
        with suppress(FileExistsError):  # another process was quicker
            os.link(draft, path)
        _make_durable(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection, first: Entry) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
    for statement in STATEMENTS:
        connection.execute(statement)
    values = (first.seq, first.kind, first.payload, first.previous, first.hash)
    connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", values)
    connection.execute("COMMIT")


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _file_errors(path: Path, rule: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeError) as error:
        raise LedgerError(
            f"Expected ledger={path} to {rule} ({error}). What was charged stands as it was, and "
            "nothing is sampled that cannot be charged. Make room or give the right to write, then "
            "resume; dpft ledger verify checks the file."
        ) from error
