"""The tables of a ledger file, and the triggers that keep them append-only."""

__all__ = ["APPLICATION_ID", "FORMAT_VERSION", "STATEMENTS"]

APPLICATION_ID = 0x64706674  # "dpft"
FORMAT_VERSION = 1

_ENTRIES = """CREATE TABLE entries (
    seq INTEGER PRIMARY KEY CHECK (seq >= 1),
    kind TEXT NOT NULL CHECK (typeof(kind) = 'text'),
    payload TEXT NOT NULL CHECK (typeof(payload) = 'text'),
    previous TEXT NOT NULL CHECK (length(previous) = 64),
    hash TEXT NOT NULL UNIQUE CHECK (length(hash) = 64)
)"""
# Digests stand apart from the chain, which commits to each set by a salted hash, so that the chain
# can be exported without them.
_DIGESTS = """CREATE TABLE digests (
    seq INTEGER NOT NULL,
    dataset TEXT NOT NULL,
    key_id TEXT NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    digests BLOB NOT NULL CHECK (length(digests) % 8 = 0),
    PRIMARY KEY (seq, dataset)
)"""
_FOLLOW = """CREATE TRIGGER entries_follow BEFORE INSERT ON entries
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
    OR (NEW.seq > 1 AND NEW.previous IS NOT (SELECT hash FROM entries WHERE seq = NEW.seq - 1))
BEGIN SELECT RAISE(ABORT, 'an entry follows the last one'); END"""
# A conflict resolved by REPLACE deletes without firing triggers for DELETE.
_ONCE = """CREATE TRIGGER digests_once BEFORE INSERT ON digests
WHEN EXISTS (SELECT 1 FROM digests WHERE seq = NEW.seq AND dataset = NEW.dataset)
BEGIN SELECT RAISE(ABORT, 'digests are written once'); END"""


def _stays(table: str, event: str) -> str:
    return (
        f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table}\n"
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    )


STATEMENTS = (
    _ENTRIES,
    _DIGESTS,
    _FOLLOW,
    _ONCE,
    *(_stays(table, event) for table in ("entries", "digests") for event in ("UPDATE", "DELETE")),
)
