"""A part of a report: plain text that each form of the report escapes in its own way."""

import dataclasses

__all__ = ["Page", "Section", "Table"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of plain text.

    Args:
        head: Names of the columns; empty for a table of names and values.
        rows: As many cells as the head has, else two.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it, in this order.

    Args:
        title: The heading.
        texts: Paragraphs.
        table: A table, or None.
        items: A list.
        figure: Name of a figure, or None.

    Privacy:
        Whoever makes one declares its text releasable.
    """

    title: str
    texts: tuple[str, ...] = ()
    table: Table | None = None
    items: tuple[str, ...] = ()
    figure: str | None = None


@dataclasses.dataclass(frozen=True)
class Page:
    """What one reader needs.

    Args:
        title: The heading.
        sections: Its parts.
    """

    title: str
    sections: tuple[Section, ...]
