"""The parts of a report: plain text that each form of the report escapes in its own way."""

import dataclasses

from dpft.reporting.figures import Drawing

__all__ = ["Document", "Link", "Page", "Section", "Table"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of plain text.

    Args:
        head: Names of the columns; empty for a table of names and values.
        rows: As many cells as the head has, else two.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Link:
    """A reference to another document of the same report.

    Args:
        text: What is shown.
        stem: The document's name, without its ending.
    """

    text: str
    stem: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it, in this order.

    Args:
        title: The heading.
        texts: Paragraphs.
        table: A table, or None.
        items: A list.
        links: A list of other documents.
        figure: Name of a figure, or None.

    Privacy:
        Whoever makes one declares its text releasable.
    """

    title: str
    texts: tuple[str, ...] = ()
    table: Table | None = None
    items: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """One document, which is written as HTML and as Markdown.

    Args:
        stem: Name of its files, without their endings. No given name is part of it.
        title: The heading.
        lead: What has to be known first.
        is_private: Whether anything is promised.
        pages: Its parts.
        drawings: The figures that its sections name.

    Privacy:
        Released values and given names.
    """

    stem: str
    title: str
    lead: str
    is_private: bool
    pages: tuple[Page, ...]
    drawings: tuple[Drawing, ...] = ()
