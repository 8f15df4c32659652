"""Reads the report that a run wrote when it ended, as far as no other file holds what it says."""

import dataclasses
import re
from collections.abc import Mapping

from dpft.errors import ConfigurationError

__all__ = ["NOT_PRIVATE", "Statement", "read_statement"]

NOT_PRIVATE = "**NOT PRIVATE**"
_CHECKS = "Checks before the first step"
_INTERRUPTIONS = "Interruptions"
_BETWEEN_CELLS = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\([\\`*_\[\]<>|#])")


@dataclasses.dataclass(frozen=True)
class Statement:
    """What `report.md` of a run says.

    Args:
        is_private: Whether its first line does not say NOT PRIVATE.
        rows: The first table, by its left column.
        checks: Name, value, tolerance and verdict of each check before the first step.
        interruptions: The table on starts and steps, by its left column.

    Privacy:
        Released text.
    """

    is_private: bool
    rows: Mapping[str, str]
    checks: tuple[tuple[str, ...], ...]
    interruptions: Mapping[str, str]


def read_statement(text: str) -> Statement:
    """Read `report.md` of a run.

    Args:
        text: Its content, as `dpft.report.write_report` wrote it.

    Returns:
        What it says, with the signs of Markdown taken away.

    Raises:
        ConfigurationError: If a part is missing: it is of another version, or was edited.

    Privacy:
        Nothing, no data touched.
    """
    head, *others = re.split(r"^## ", text, flags=re.MULTILINE)
    parts = dict(other.split("\n", 1) for other in others if "\n" in other)
    missing = [name for name in (_CHECKS, _INTERRUPTIONS) if name not in parts]
    rows = _pairs(head)
    if missing or not rows:
        raise ConfigurationError(
            f"Expected report.md to hold {', '.join(missing) or 'a table'}. Another version of "
            "dpft wrote it, or it was edited. Make the report with the version that trained."
        )
    checks = tuple(cells for cells in _cells(parts[_CHECKS]) if len(cells) == 4)
    return Statement(
        is_private=not text.startswith(NOT_PRIVATE),
        rows=rows,
        checks=checks[1:],  # without the head of the table
        interruptions=_pairs(parts[_INTERRUPTIONS]),
    )


def _pairs(text: str) -> dict[str, str]:
    return {cells[0]: cells[1] for cells in _cells(text) if len(cells) == 2 and cells[0]}


def _cells(text: str) -> list[tuple[str, ...]]:
    """Return the rows of all tables, without the lines of dashes."""
    lines = [line for line in text.splitlines() if line.startswith("|") and set(line) - set("|- ")]
    return [tuple(map(_plain, _BETWEEN_CELLS.split(line)[1:-1])) for line in lines]


def _plain(cell: str) -> str:
    return _ESCAPED.sub(r"\1", cell.strip())
