"""The report of one merge: what it was made of, and what all runs behind it spent."""

from pathlib import Path
from typing import Any

from dpft.explanation import in_words, touched_in_words
from dpft.reporting.given import given
from dpft.reporting.guarantee import Guarantee
from dpft.reporting.merges import Merge
from dpft.reporting.plots import draw_guarantee
from dpft.reporting.promises import (
    accountant_in_words,
    curve,
    guaranteed,
    meaning,
    neighbours_in_words,
    outside,
)
from dpft.reporting.run_report import FORMAT_VERSION, guarantee_as_json, lead
from dpft.reporting.section import Document, Page, Section, Table
from dpft.reporting.writing import refuse_inside, write_documents

__all__ = ["expression_as_json", "expression_rows", "write_merge_report"]

_ABSENT = (
    "A merge trains nothing: it has no settings file, no metrics, no steps and no checks of its "
    "own. Those of the runs stand in their folders."
)
_SOURCE = (
    "As expression.json states it. No digest covers this file; the runs that it names were "
    "compared with those of the certificate."
)


def write_merge_report(merge: Merge, folder: Path) -> tuple[Path, ...]:
    """Write report.html, report.md, report.json and figures/*.svg.

    Args:
        merge: What the folder says.
        folder: Where to; it is made if it is absent. Reports in it are replaced.

    Returns:
        The files of the reports.

    Raises:
        AccountantError: If the accountant fails numerically.
        ConfigurationError: If it is the folder of the merge itself.

    Privacy:
        Released values and given names.
    """
    refuse_inside(folder, [merge.path])
    guarantee = Guarantee.of(merge.publication, merge.claim)
    document = Document(
        stem="report",
        title=f"Privacy report: merged {given(merge.family)} adapter",
        lead=lead(guarantee),
        is_private=guarantee.is_private,
        pages=(_officer(merge, guarantee), _engineer(merge)),
        drawings=draw_guarantee(guarantee),
    )
    values = {"format_version": FORMAT_VERSION, "kind": merge.kind.value}
    values |= guarantee_as_json(guarantee) | expression_as_json(merge)
    return write_documents([document], values, folder)


def expression_as_json(merge: Merge) -> dict[str, Any]:
    """Return what a merge was made of as JSON values.

    Args:
        merge: What the folder says.

    Privacy:
        Released values.
    """
    return {
        "expression": merge.formula,
        "coefficients": dict(merge.named),
        "terms": [vars(term) for term in merge.terms],
        "base": merge.base,
        "runs": [run.fields() for run in merge.certificate.runs],
    }


def expression_rows(merge: Merge) -> tuple[tuple[str, str], ...]:
    """Return what a merge was made of, for a table.

    Args:
        merge: What the folder says.

    Privacy:
        Released values and given names.
    """
    details = {name: value for name, value in merge.made_by.items() if _is_plain(value)}
    base = merge.base or "not stated"
    return (
        ("Expression", " ".join(map(given, merge.formula.split()))),
        ("Base model", given(base)),
        *((given(name.capitalize()), _said(value)) for name, value in details.items()),
    )


def _said(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else given(str(value))


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool) and value != ""


def _officer(merge: Merge, guarantee: Guarantee) -> Page:
    return Page(
        "For the privacy officer",
        (
            _guarantee(guarantee),
            meaning(guarantee),
            _runs(merge),
            *([curve(guarantee)] if guarantee.is_private else []),
            outside(guarantee.certificate),
        ),
    )


def _guarantee(guarantee: Guarantee) -> Section:
    certificate, claim = guarantee.certificate, guarantee.claim
    touched = dict.fromkeys(touched_in_words(run) for run in certificate.runs)
    rows = (
        ("Data sets", "; ".join(map(given, touched))),
        ("Unit of privacy", f"one {certificate.unit.value} of the training data"),
        ("Neighbouring data sets", neighbours_in_words(certificate)),
        ("Guarantee", guaranteed(guarantee.epsilon, guarantee.delta)),
        ("Accountant", accountant_in_words(certificate.accountant, claim.numerical_error)),
        ("Certificate (SHA-256)", guarantee.publication.digest),
    )
    return Section(title="Guarantee", table=Table((), rows))


def _runs(merge: Merge) -> Section:
    text = (
        "All of these are counted, whatever their sign in the expression: to subtract an adapter "
        "refunds nothing. Runs count as sharing records unless a public rule keeps them apart."
    )
    rows = tuple(
        (
            run.run_id[:12],
            touched_in_words(run),
            in_words(run.mechanism) if run.private else "NOT PRIVATE",
        )
        for run in merge.certificate.runs
    )
    table = Table(("run", "data", "mechanism"), rows)
    return Section(title="Runs that are counted", texts=(text,), table=table)


def _engineer(merge: Merge) -> Page:
    terms = tuple(
        (term.coefficient, term.leaf[:12], ", ".join(given(run[:12]) for run in term.runs))
        for term in merge.terms
    )
    table = Table(("coefficient", "tensors (SHA-256)", "runs"), terms)
    weights = (
        ("Merged tensors (SHA-256)", merge.publication.tensors),
        ("Certificate (SHA-256)", merge.publication.digest),
    )
    return Page(
        "For the engineer",
        (
            Section(title="Expression", texts=(_SOURCE,), table=Table((), expression_rows(merge))),
            Section(title="Summands", table=table),
            Section(title="Weights", table=Table((), weights)),
            Section(title="What is absent", texts=(_ABSENT,)),
        ),
    )
