"""Whose records they are: owners as text, the records of each, and the first few of each.

Every rule in here reads the records of one user at a time, so that what becomes of one user's
records depends on nobody else's. No torch in here.
"""

import hashlib
import json
import numbers
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from dpft.errors import ConfigurationError

__all__ = ["Users", "charged_rows", "first_of_each", "owner_name", "owners_in", "without_owner"]

_Row = Mapping[str, Any]
_UNSEEN = ("Cf", "Cs")  # Unicode's categories of marks such as a zero-width space, and of halves
_MAX_PROBLEMS = 5  # more rows with the same mistake teach nothing
# What programs write for a value that is missing, where a column holds text alone.
_MISSING = frozenset({"nan", "NaN", "<NA>", "NaT", "None", "null", "NULL"})
# Public: it only makes the order one that nobody chose. Which records are kept is no secret.
_ORDER = b"dpft: order of the records of one user"


class Users:
    """Which records belong to whom.

    Args:
        owners: Name of the owner of each record, in the order of the records.

    Privacy:
        Holds who owns what: raw.
    """

    def __init__(self, owners: Sequence[str]) -> None:
        """Collect the positions of each owner's records."""
        found: dict[str, list[int]] = {}
        for position, owner in enumerate(owners):
            found.setdefault(owner, []).append(position)
        self._raw_positions = list(found.values())

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self._raw_positions)

    def __repr__(self) -> str:
        """Name nobody."""
        return "Users()"

    def records_of(self, user: int) -> Sequence[int]:
        """Return the positions of one user's records; users count from 0 as they first appear."""
        return self._raw_positions[user]


def owner_name(value: object) -> str | None:
    """Return the name of an owner as text, None if it names nobody.

    Args:
        value: Text or an integer; texts that differ in white space, in signs that are not seen
            or in Unicode's form (NFKC) alone are the same name, so that nobody is taken for two.
            What programs write for a missing value, as "nan", names nobody.

    Privacy:
        Taking two users for one protects both together; the other way round would not.

    Example:
        >>> owner_name(" Ada  Lovelace"), owner_name(7), owner_name("  ")
        ('Ada Lovelace', '7', None)
    """
    if isinstance(value, bool) or not isinstance(value, str | numbers.Integral):
        return None
    text = unicodedata.normalize("NFKC", str(value))
    seen = "".join(sign for sign in text if unicodedata.category(sign) not in _UNSEEN)
    name = " ".join(seen.split())
    return None if name in _MISSING else name or None


def owners_in(rows: Sequence[_Row], field: str, place: str = "records") -> list[str]:
    """Return the owner of every record.

    Args:
        rows: Records.
        field: Field that names the owner.
        place: What the rows are, for messages, as in "file=train.csv".

    Returns:
        One name a record, as `owner_name` writes it.

    Raises:
        ConfigurationError: If a record names nobody; the first few rows are named, counted from 1.

    Privacy:
        Messages name rows and the column, never content
        (`tests/dpft/test_users.py::test_records_without_an_owner_are_refused_by_row`).
    """
    owners = [owner_name(row.get(field)) for row in rows]
    wrong = [number for number, owner in enumerate(owners, 1) if owner is None]
    if wrong:
        messages = [_nobody(place, number, field) for number in wrong[:_MAX_PROBLEMS]]
        more = ["More rows have such problems."] if len(wrong) > _MAX_PROBLEMS else []
        raise ConfigurationError(messages + more)
    return [owner for owner in owners if owner is not None]


def first_of_each(rows: Sequence[_Row], owners: Sequence[str], most: int) -> list[int]:
    """Return the positions of the first records of each user, in an order that nobody chose.

    A user's records are ordered by a keyed hash of their content, and the first ones are kept.

    Args:
        rows: Records.
        owners: Owner of each.
        most: How many records of a user are kept, >= 1; a public number.

    Returns:
        Positions, ascending.

    Privacy:
        Which of a user's records are kept depends on that user's records alone: another user more
        or less changes nothing
        (`tests/dpft/test_users.py::test_what_is_kept_of_a_user_depends_on_nobody_else`).
    """
    users = Users(owners)
    kept: list[int] = []
    for user in range(len(users)):
        own = users.records_of(user)
        kept += sorted(own, key=lambda position: _place_of(rows[position]))[:most]
    return sorted(kept)


def without_owner(rows: Sequence[_Row], field: str) -> list[dict[str, Any]]:
    """Return the rows without the field that names their owner: it is no input of a model.

    Privacy:
        Raw records.
    """
    return [{name: value for name, value in row.items() if name != field} for row in rows]


def charged_rows(rows: Sequence[_Row], field: str | None) -> Sequence[_Row]:
    """Return what a ledger digests of records: themselves, and each user as a row of its own.

    Args:
        rows: Records.
        field: Field that names the owner, None where the unit is a record.

    Privacy:
        Data sets that share a user then share a budget, also where they share no record
        (`tests/dpft/test_users.py::test_data_sets_that_share_a_user_alone_overlap_in_a_ledger`).
    """
    if field is None:
        return rows
    names = dict.fromkeys(owners_in(rows, field))
    return [*without_owner(rows, field), *({"unit": "user", "name": name} for name in names)]


def _place_of(row: _Row) -> bytes:
    content = json.dumps(dict(row), sort_keys=True, default=repr).encode()
    return hashlib.blake2b(content, key=_ORDER, digest_size=16).digest()


def _nobody(place: str, number: int, field: str) -> str:
    return (
        f"Expected {place} row={number} column={field} to name a user, by text or an integer. A "
        "record that belongs to nobody would be covered by no guarantee. Correct or remove the row."
    )
