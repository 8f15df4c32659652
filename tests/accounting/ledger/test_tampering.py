"""Whatever is edited in a ledger is found, on opening or by `verify`."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import Budget, Head, Ledger, RecordDigests, Reservation, verify
from dpft.accounting.ledger.chain import START, Entry

Plan = Callable[..., Reservation]
Digests = Callable[..., RecordDigests]


@pytest.fixture
def written(path: Path, plan: Plan, digests: Digests) -> Head:
    """Write a ledger with one entry of every kind; return its head."""
    with Ledger.open(path) as ledger:
        ledger.set_budget("mail", Budget(epsilon=8, delta=1e-5))
        ledger.declare_disjoint("mail", "calls", "two systems")
        ledger.reserve(plan("a", "mail", digests("x", "y")))
        ledger.intend("a", ledger.attach("a"), upto=2)
        ledger.settle("a")
        ledger.release(Reservation.of("m", "mail", plan("m").uses[0].mechanism))  # type: ignore[arg-type]
        return ledger.head


@contextlib.contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file without its triggers for as long as it takes."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    kept = triggers.fetchall()
    for name, _ in kept:
        connection.execute(f"DROP TRIGGER {name}")
    try:
        yield connection
    finally:
        for _, statement in kept:
            connection.execute(statement)
        connection.close()


def check(path: Path, quoted: Head | None = None) -> None:
    with Ledger.read(path) as ledger:
        verify(ledger, quoted)


def test_what_was_written_is_sound(path: Path, written: Head) -> None:
    check(path)
    check(path, written)
    with Ledger.read(path) as ledger:
        first = ledger.entries()[0].head
        assert verify(ledger, first).quoted
        assert verify(ledger).entries == 8


@pytest.mark.parametrize("seq", range(1, 9))
@pytest.mark.parametrize("column", ["kind", "payload", "previous", "hash"])
def test_any_edited_entry_is_found(path: Path, written: Head, seq: int, column: str) -> None:
    with raw(path) as connection:
        select = f"SELECT {column} FROM entries WHERE seq = ?"  # noqa: S608 - our own column
        (value,) = connection.execute(select, (seq,)).fetchone()
        edited = ("x" if value[0] != "x" else "y") + value[1:]
        update = f"UPDATE entries SET {column} = ? WHERE seq = ?"  # noqa: S608 - our own column
        connection.execute(update, (edited, seq))
    with pytest.raises(LedgerError, match="Restore the ledger"):
        check(path)


def test_a_number_made_smaller_is_found(path: Path, written: Head) -> None:
    with raw(path) as connection:
        connection.execute(
            "UPDATE entries SET payload = replace(payload, '\"upto\":2', '\"upto\":1')"
        )
    with pytest.raises(LedgerError, match="hash and all"):
        check(path)


@pytest.mark.parametrize("seq", range(1, 8))
def test_a_removed_entry_is_found(path: Path, written: Head, seq: int) -> None:
    with raw(path) as connection:
        connection.execute("DELETE FROM entries WHERE seq = ?", (seq,))
    with pytest.raises(LedgerError):
        check(path)


def test_a_removed_end_is_found_by_a_quoted_head_alone(path: Path, written: Head) -> None:
    with raw(path) as connection:
        connection.execute("DELETE FROM entries WHERE seq >= 7")
    check(path)
    with pytest.raises(LedgerError, match="cut off"):
        check(path, written)


def test_a_chain_that_was_written_anew_is_found_by_a_quoted_head(path: Path, written: Head) -> None:
    with raw(path) as connection:
        rows = connection.execute("SELECT kind, payload FROM entries ORDER BY seq").fetchall()
        connection.execute("DELETE FROM entries")
        head = START
        for kind, payload in rows:
            fields = Entry(1, kind, payload.replace("8.0", "9.0"), "", "").fields
            entry = Entry.after(head, kind, fields)
            values = (entry.seq, entry.kind, entry.payload, entry.previous, entry.hash)
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", values)
            head = entry.head
    check(path)
    with pytest.raises(LedgerError, match="written anew"):
        check(path, written)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE digests SET digests = substr(digests, 9)",
        "UPDATE digests SET dataset = 'post'",
        "UPDATE digests SET key_id = 'other'",
        "UPDATE digests SET salt = zeroblob(32)",
        "DELETE FROM digests",
        "INSERT INTO digests SELECT 3, dataset, key_id, salt, digests FROM digests",
    ],
)
def test_edited_digests_are_found(path: Path, written: Head, statement: str) -> None:
    with raw(path) as connection:
        connection.execute(statement)
    with pytest.raises(LedgerError, match="record digests"):
        check(path)


def test_a_missing_trigger_is_found(path: Path, written: Head) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER entries_no_update")
    connection.close()
    with pytest.raises(LedgerError, match="tables and triggers"):
        check(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET kind = 'settle' WHERE seq = 2",
        "DELETE FROM entries WHERE seq = 8",
        "INSERT OR REPLACE INTO entries SELECT * FROM entries WHERE seq = 2",
        "INSERT INTO entries SELECT 99, kind, payload, previous, kind FROM entries WHERE seq = 2",
        "UPDATE digests SET dataset = 'x'",
        "DELETE FROM digests",
        "INSERT OR REPLACE INTO digests SELECT * FROM digests",
    ],
)
def test_the_tables_take_nothing_but_the_next_entry(
    path: Path, written: Head, statement: str
) -> None:
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.close()
    check(path, written)


def test_a_file_put_back_while_it_is_open_is_found(path: Path, written: Head, plan: Plan) -> None:
    backup = shutil.copy(path, path.with_suffix(".backup"))
    with Ledger.open(path) as ledger:
        ledger.reserve(plan("b"))
        token = ledger.attach("b")
        Path(backup).replace(path)
        with pytest.raises(LedgerError, match="moved or replaced"):
            ledger.intend("b", token, upto=1)


def test_an_entry_that_cannot_follow_is_refused_though_its_hash_fits(
    path: Path, written: Head
) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    entry = Entry.after(written, "intend", {"run_id": "a", "token": 1, "upto": 3})
    values = (entry.seq, entry.kind, entry.payload, entry.previous, entry.hash)
    connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", values)
    connection.close()
    with pytest.raises(LedgerError, match="settled"):
        check(path)


@pytest.mark.parametrize(("kind", "fields"), [("gift", {}), ("ledger", {}), ("settle", {"run": 1})])
def test_entries_of_unknown_kind_or_form_are_refused(
    path: Path, written: Head, kind: str, fields: dict[str, object]
) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    entry = Entry.after(written, kind, fields)
    values = (entry.seq, entry.kind, entry.payload, entry.previous, entry.hash)
    connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", values)
    connection.close()
    with pytest.raises(LedgerError, match="entry 9"):
        check(path)


def test_another_file_is_no_ledger(path: Path) -> None:
    path.write_text("no database at all, but long enough to be read as one" * 20)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger.open(path)
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(LedgerError, match="to be a ledger of version 1"):
        Ledger.open(path)
