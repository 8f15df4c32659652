"""Writes documents as HTML and Markdown, and their facts as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpft.errors import ConfigurationError
from dpft.reporting.figures import inlined
from dpft.reporting.given import in_markdown, visible
from dpft.reporting.section import Document
from dpft.run_folder import write_whole

__all__ = ["refuse_inside", "write_documents"]

_JSON = "report.json"


def write_documents(
    documents: Sequence[Document], values: Mapping[str, Any], folder: Path
) -> tuple[Path, ...]:
    """Write the documents of a report, figures/*.svg, and report.json.

    Args:
        documents: Each becomes a page of HTML and one of Markdown.
        values: The facts as JSON values.
        folder: Where to; it is made if it is absent. Reports in it are replaced.

    Returns:
        The files of the report.

    Privacy:
        Releases the documents. Names are escaped (`test_a_name_with_html_is_text`), and no page
        loads anything (`test_the_page_loads_nothing_and_runs_nothing`).
    """
    texts: dict[str, str] = {}
    for document in documents:
        texts[f"{document.stem}.html"] = _html(document)
        texts[f"{document.stem}.md"] = _markdown(document)
    texts[_JSON] = json.dumps(values, indent=2, allow_nan=False) + "\n"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for document in documents:
        for drawing in document.drawings:
            write_whole(folder / "figures" / f"{drawing.name}.svg", drawing.svg)
    for name, text in texts.items():
        write_whole(folder / name, text)
    return tuple(folder / name for name in texts)


def refuse_inside(folder: Path, sources: Sequence[Path]) -> None:
    """Refuse to write a report among the files that it is made of.

    Args:
        folder: Where to write.
        sources: Folders that the report is made of.

    Raises:
        ConfigurationError: If it is one of them, or the folder of its weights.

    Privacy:
        Nothing, no data touched.
    """
    taken = {place.resolve() for each in sources for place in (each, each / "adapter")}
    if folder.resolve() in taken:
        raise ConfigurationError(
            f"Expected output={folder} to be another folder than the run's. The report.md in it is "
            "the run's own and is compared with its certificate. Leave --output out, or name a "
            "folder for the reports."
        )


def _html(document: Document) -> str:
    # drawn by matplotlib from numbers and fixed words: the one thing that is not escaped
    figures = {
        drawing.name: Markup(inlined(drawing))  # noqa: S704
        for drawing in document.drawings
    }
    return _template("report.html.j2", document, figures, escaped=True)


def _markdown(document: Document) -> str:
    figures = {drawing.name: drawing.words for drawing in document.drawings}
    return _template("report.md.j2", document, figures, escaped=False)


def _template(name: str, document: Document, figures: Mapping[str, str], *, escaped: bool) -> str:
    environment = Environment(
        loader=PackageLoader("dpft.reporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=escaped,  # noqa: S701 - off for Markdown, where `in_markdown` escapes names
        finalize=_shown if escaped else None,
    )
    environment.filters["inline"] = in_markdown
    return environment.get_template(name).render(document=document, figures=figures)


def _shown(value: object) -> object:
    """Make plain text visible wherever it stands in a page; figures stay as they are."""
    return visible(value) if type(value) is str else value
