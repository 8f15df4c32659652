"""Several texts of one table: whether they are one unit, and which belong together. No torch.

May be imported by every task that writes a text for a table.
"""

from collections.abc import Sequence
from enum import Enum

from dpft.recipes.tasks.ownership import OWNER_FIELD
from dpft.recipes.tasks.task import Row

__all__ = ["References", "by_table", "note_on", "owned_by_table"]

_NOTES = {
    "one_record": (
        "Unit: a table with all of its references. They are sampled, clipped and counted together "
        "(task.references=one_record)."
    ),
    "several": (
        "Unit: a table with one reference. The references of one table are records of their own, "
        "as in the papers, and nothing is promised for all of them together "
        "(task.references=several)."
    ),
}


class References(str, Enum):
    """Whether the references of one table are `one_record` together, or `several` records."""

    ONE_RECORD = "one_record"
    SEVERAL = "several"


def note_on(references: References) -> str:
    """Return the sentence for the report.

    Privacy:
        Nothing, no data touched.
    """
    return _NOTES[references.value]


def owned_by_table(rows: Sequence[Row], field: str = "text") -> list[Row]:
    """Name the table of each row as its owner; what it is called depends on no other row.

    Args:
        rows: Training rows.
        field: Field of the table.

    Returns:
        The rows with an owner, so that a table is the unit.

    Privacy:
        Keeps raw records; nothing is released. Data sets that share a table share a user, and no
        others do (`tests/recipes/test_table_corpora.py`).
    """
    return [{**row, OWNER_FIELD: row[field]} for row in rows]


def by_table(
    rows: Sequence[Row], fields: Sequence[str], target: str
) -> list[tuple[Row, list[str]]]:
    """Collect the references of each input.

    Args:
        rows: Held-out rows.
        fields: Fields of the input: the table, or an instruction and what it is about.
        target: Field of the text.

    Returns:
        Inputs with their references, in order of first appearance.

    Privacy:
        Keeps raw records; nothing is released.

    Example:
        >>> by_table([{"t": "x", "y": "a"}, {"t": "x", "y": "b"}], ["t"], "y")
        [({'t': 'x'}, ['a', 'b'])]
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault(tuple(row[field] for field in fields), []).append(row[target])
    return [(dict(zip(fields, key, strict=True)), texts) for key, texts in found.items()]
