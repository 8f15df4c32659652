"""The report of several runs: a document for each data set, and an index of several."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpft.reporting.comparison import Comparison, Spending, Together
from dpft.reporting.dataset_page import dataset_document, used_in_words
from dpft.reporting.given import given
from dpft.reporting.merge_report import expression_as_json
from dpft.reporting.merges import Merge
from dpft.reporting.promises import guaranteed
from dpft.reporting.reading import Source
from dpft.reporting.run_report import FORMAT_VERSION
from dpft.reporting.section import Document, Link, Page, Section, Table
from dpft.reporting.utility import Utility
from dpft.reporting.writing import refuse_inside, write_documents

__all__ = ["comparison_as_json", "write_comparison_report"]

_OVERLAP = (
    "That data sets have different names does not say that they share no records, so this is what "
    "somebody may have spent who is in all of them. The document of a data set counts what touched "
    "that data set."
)


def write_comparison_report(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write report.html, report.md and report.json, and with several data sets one of each more.

    Args:
        comparison: What the report states.
        folder: Where to; it is made if it is absent. Reports in it are replaced.

    Returns:
        The files of the report.

    Raises:
        ConfigurationError: If it is one of the folders that were given.

    Privacy:
        Releases the facts.
    """
    refuse_inside(folder, [_place(source) for source in comparison.sources])
    alone = len(comparison.spendings) == 1
    documents = [
        dataset_document(number, each, alone=alone, has_ledger=comparison.has_ledger)
        for number, each in enumerate(comparison.spendings, start=1)
    ]
    if not alone:
        documents = [_index(comparison, documents), *documents]
    return write_documents(documents, comparison_as_json(comparison), folder)


def _place(source: Source) -> Path:
    return source.path if isinstance(source, Merge) else source.folder.path


def _index(comparison: Comparison, documents: Sequence[Document]) -> Document:
    together = comparison.together
    links = tuple(
        Link(given(spending.dataset), document.stem)
        for spending, document in zip(comparison.spendings, documents, strict=True)
    )
    head = ("data set", "folders", "unit", "neighbours", "together", "budget")
    rows = tuple(map(_row, comparison.spendings))
    sections = (
        Section(title="Data sets", table=Table(head, rows), links=links),
        Section(title="All of them", texts=(_all(comparison), _OVERLAP)),
    )
    return Document(
        stem="report",
        title=f"Privacy report: {len(rows)} data sets",
        lead=_lead(comparison),
        is_private=together is None or math.isfinite(together.epsilon),
        pages=(Page("Overview", sections),),
    )


def _lead(comparison: Comparison) -> str:
    together = comparison.together
    if together is None:
        return "No number holds for all data sets together; each has its own document."
    if math.isinf(together.epsilon):
        return "NOT PRIVATE. One of the runs, at least, may reveal any of its records."
    return f"{guaranteed(together.epsilon, together.delta)} for whoever is in all data sets."


def _all(comparison: Comparison) -> str:
    if comparison.together is None:
        return f"They cannot be added up. {comparison.why_not}"
    spent = guaranteed(comparison.together.epsilon, comparison.together.delta)
    return f"All runs together, as a fixed set: {spent}."


def _row(spending: Spending) -> tuple[str, ...]:
    together = spending.together
    budgets = [used_in_words(each) for each in spending.budgets]
    return (
        spending.dataset,
        f"{len(spending.sources)}",
        together.certificate.unit.value,
        together.certificate.adjacency.value.replace("_", "-"),
        guaranteed(together.epsilon, together.delta),
        "; ".join(budgets) or "not looked up",
    )


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the facts as JSON values; infinity becomes null.

    Args:
        comparison: What the report states.

    Privacy:
        Released values.
    """
    return {
        "format_version": FORMAT_VERSION,
        "kind": "comparison",
        "together": _together(comparison.together),
        "cannot_be_added_up": comparison.why_not or None,
        "datasets": list(map(_spending, comparison.spendings)),
    }


def _together(together: Together | None) -> dict[str, Any] | None:
    if together is None:
        return None
    return {
        "epsilon": _finite(together.epsilon),
        "delta": together.delta,
        "accountant": together.certificate.accountant,
        "unit": together.certificate.unit.value,
        "adjacency": together.certificate.adjacency.value,
        "runs": [run.fields() for run in together.certificate.runs],
    }


def _spending(spending: Spending) -> dict[str, Any]:
    return {
        "dataset": spending.dataset,
        "together": _together(spending.together),
        "together_with_a_guarantee": _together(spending.private),
        "folders": list(map(_source, spending.sources)),
        "utility": list(map(_utility, spending.utilities)),
        "ledger": [state.to_json() for state in spending.budgets],
    }


def _source(source: Source) -> dict[str, Any]:
    values = {
        "name": source.name,
        "kind": source.kind.value,
        "epsilon": _finite(source.claim.epsilon),
        "delta": source.claim.delta,
        "accountant": source.certificate.accountant,
        "certificate_sha256": source.publication.digest,
    }
    if isinstance(source, Merge):
        return values | expression_as_json(source)
    return values | {"run_id": source.run.run_id, "metrics": dict(source.metrics["metrics"])}


def _utility(utility: Utility) -> dict[str, Any]:
    points = [
        vars(point)
        | {"epsilon": _finite(point.epsilon)}
        | {"mean": point.mean, "standard_deviation": point.deviation}
        for point in utility.points
    ]
    return vars(utility) | {"points": points}


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
