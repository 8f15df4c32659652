"""The document of one data set: who spent what, what is left, and what it was spent for."""

import math
from collections.abc import Iterator
from itertools import starmap

from dpft.explanation import in_words
from dpft.rendering import rounded_up
from dpft.reporting.budgets import BudgetState
from dpft.reporting.comparison import Spending, Together
from dpft.reporting.comparison_plots import letter, spent_figure, utility_figure
from dpft.reporting.figures import Drawing
from dpft.reporting.given import given
from dpft.reporting.kinds import Kind
from dpft.reporting.merge_report import expression_rows
from dpft.reporting.merges import Merge
from dpft.reporting.promises import (
    accountant_in_words,
    guaranteed,
    neighbours_in_words,
    outside,
    spent_in_words,
)
from dpft.reporting.reading import Source
from dpft.reporting.section import Document, Page, Section, Table
from dpft.reporting.utility import Repeated, Utility

__all__ = ["dataset_document", "used_in_words"]

_KINDS = {Kind.RUN: "dpft train", Kind.PYTHON: "dpft.fit", Kind.MERGE: "dpft merge"}
_FIXED = (
    "Composed from the mechanisms, each run counted once, for this fixed set of runs: where a "
    "later one was planned after looking at an earlier one, the ledger's filter is the stricter "
    "answer. Runs on other data sets that these started from, or were merged with, are counted "
    "too, since nobody excluded that they share records."
)
_NOT_PRIVATE = (
    "A run without a guarantee counts like any other: whoever sees its weights may learn any "
    "record. The second number holds only for those who never see it."
)
_NO_LEDGER = "None was given, so nothing is said of budgets: dpft report ... --ledger FILE."
_NOT_IN_LEDGER = "The ledger has no data set of this name."
_OF_LEDGER = (
    "The ledger counts all runs that were charged, also those that are not in this report, and "
    "steps that were planned and never taken where plans are fixed."
)
_BARS = (
    "Bars are standard deviations over seeds, where several runs share all settings but the seed; "
    "they do not cover the choice of held-out records. A line joins runs that differ in the noise "
    "alone. Whoever chooses a run by this table has looked at all of them, and what counts is the "
    "number together."
)


def dataset_document(number: int, spending: Spending, *, alone: bool, has_ledger: bool) -> Document:
    """Return the document of one data set.

    Args:
        number: Its number, from 1.
        spending: What was done to it.
        alone: Whether there is no other.
        has_ledger: Whether a ledger was given.

    Privacy:
        Released values and given names.
    """
    spent = spent_figure(f"spent_{number}", spending)
    drawn = [
        utility_figure(f"utility_{number}_{place}", utility)
        for place, utility in enumerate(spending.utilities, start=1)
    ]
    officer = (
        _together(spending),
        _runs(spending, spent),
        *_merges(spending),
        *_ledger(spending, has_ledger=has_ledger),
        outside(spending.together.certificate),
    )
    return Document(
        stem="report" if alone else f"dataset-{number}",
        title=f"Privacy report: {given(spending.dataset)}",
        lead=_lead(spending),
        is_private=math.isfinite(spending.together.epsilon),
        pages=(
            Page("For the privacy officer", officer),
            Page("For the engineer", _utilities(spending, drawn)),
        ),
        drawings=tuple(each for each in (spent, *drawn) if each is not None),
    )


def _lead(spending: Spending) -> str:
    certificate = spending.together.certificate
    unit, count = certificate.unit.value, len(spending.sources)
    if math.isinf(spending.together.epsilon):
        return f"NOT PRIVATE. One of the runs, at least, may reveal any {unit} of the data set."
    of = f"all {count} together" if count > 1 else "one folder"
    return (
        f"{guaranteed(spending.together.epsilon, spending.together.delta)}, for one {unit}, "
        f"{certificate.adjacency.value.replace('_', '-')}, by {certificate.accountant}: {of}."
    )


def _together(spending: Spending) -> Section:
    together, private = spending.together, spending.private
    certificate = together.certificate
    error = certificate.numerical_error(together.delta)
    rows = [
        ("Data set", spending.dataset),
        ("Unit of privacy", f"one {certificate.unit.value} of the training data"),
        ("Neighbouring data sets", neighbours_in_words(certificate)),
        ("Runs and noisy metrics counted", f"{len(certificate.runs)}"),
        ("Together", guaranteed(together.epsilon, together.delta)),
        *([] if private is None else [("Those with a guarantee", _total(private))]),
        ("Accountant", accountant_in_words(certificate.accountant, error)),
    ]
    texts = (_FIXED, *([] if private is None else [_NOT_PRIVATE]))
    return Section(title="Together", texts=texts, table=Table((), tuple(rows)))


def _total(together: Together) -> str:
    return guaranteed(together.epsilon, together.delta)


def _runs(spending: Spending, figure: Drawing | None) -> Section:
    head = ("number", "folder", "made by", "epsilon", "delta", "mechanism", "metrics")
    rows = tuple(starmap(_row, enumerate(spending.sources, start=1)))
    name = None if figure is None else figure.name
    return Section(title="What each spent", table=Table(head, rows), figure=name)


def _row(number: int, source: Source) -> tuple[str, ...]:
    earlier = len(source.certificate.runs) - 1
    kind, spent = _KINDS[source.kind], (_epsilon(source), f"{source.claim.delta:.3g}")
    if isinstance(source, Merge):
        mechanism = f"merge of {earlier + 1} run{'s' * (earlier > 0)}"
        return str(number), given(source.name), kind, *spent, mechanism, "none"
    mechanism = in_words(source.run.mechanism) if source.run.private else "NOT PRIVATE"
    counted = f", with {earlier} more in its certificate" * (earlier > 0)
    metrics = [f"{given(name)} {value:.4g}" for name, value in source.metrics["metrics"].items()]
    name = f"{given(source.name)} (run {given(source.run.run_id[:12])})"
    said = ", ".join(metrics) or "none"
    return str(number), name, kind, *spent, f"{mechanism}{counted}", said


def _epsilon(source: Source) -> str:
    spent = source.claim.epsilon
    return "infinite" if math.isinf(spent) else rounded_up(spent)


def _merges(spending: Spending) -> Iterator[Section]:
    own = {each.run.run_id: each.name for each in spending.sources if not isinstance(each, Merge)}
    for source in spending.sources:
        if isinstance(source, Merge):
            rows = (
                *expression_rows(source),
                ("Runs behind it", ", ".join(_sources(source, own))),
                ("Composed", guaranteed(source.claim.epsilon, source.claim.delta)),
            )
            title = f"Task vector: {given(source.name)}"
            yield Section(title=title, table=Table((), rows))


def _sources(merge: Merge, own: dict[str, str]) -> Iterator[str]:
    for run in merge.certificate.runs:
        here = f", here {given(own[run.run_id])}" if run.run_id in own else ""
        yield f"{given(run.run_id[:12])} (on {given(run.dataset_id)}{here})"


def _ledger(spending: Spending, *, has_ledger: bool) -> Iterator[Section]:
    if not spending.budgets:
        text = _NOT_IN_LEDGER if has_ledger else _NO_LEDGER
        yield Section(title="Ledger", texts=(text,))
    for state in spending.budgets:
        rows = tuple(_budget_rows(state))
        yield Section(
            title=f"Ledger: {given(state.dataset)}", texts=(_OF_LEDGER,), table=Table((), rows)
        )


def _budget_rows(state: BudgetState) -> Iterator[tuple[str, str]]:
    at = f"at delta = {state.delta:.3g}"
    yield "Runs that it charged", f"{len(state.runs)}"
    yield "All of them, as a fixed set", f"{spent_in_words(state.planned_epsilon)} {at}"
    if state.shares_with:
        yield "Shares records with", ", ".join(map(given, state.shares_with))
    if state.budget_epsilon is None:
        yield "Budget", "none is set: runs are charged, and never refused"
        return
    yield "Budget", f"epsilon = {state.budget_epsilon:g} {at}, {state.plans} plans"
    yield "Taken of the budget", f"{spent_in_words(state.spent_epsilon)}, {used_in_words(state)}"


def used_in_words(state: BudgetState) -> str:
    """Return which part of a budget is used up, rounded up, and what is left of it.

    Args:
        state: A data set in a ledger.

    Privacy:
        Nothing, no data touched.
    """
    if state.spent_share is None:
        return "no budget"
    if math.isinf(state.spent_share):
        return "100 % used up, nothing is left"
    used = math.ceil(state.spent_share * 1000) / 10
    return f"{used:g} % used up, {max(100 - used, 0):.3g} % left"


def _utilities(spending: Spending, drawn: list[Drawing | None]) -> tuple[Section, ...]:
    if not spending.utilities:
        return (Section(title="Utility", texts=("No metric was released.",)),)
    return tuple(starmap(_utility, zip(spending.utilities, drawn, strict=True)))


def _utility(utility: Utility, drawing: Drawing | None) -> Section:
    head = ("series", "epsilon", "runs", "mean", "standard deviation", "folders")
    rows = tuple(map(_point, utility.points))
    items = tuple(
        f"{letter(number)}: {given(words) or 'with a guarantee, one setting but for the noise'}"
        for number, words in enumerate(utility.series)
    )
    where = f"{given(utility.task)}, {given(utility.split)}. {_BARS}"
    return Section(
        title=f"Utility: {given(utility.metric)}",
        texts=(where,),
        table=Table(head, rows),
        items=items,
        figure=None if drawing is None else drawing.name,
    )


def _point(point: Repeated) -> tuple[str, ...]:
    epsilon = "not private" if math.isinf(point.epsilon) else rounded_up(point.epsilon)
    return (
        letter(point.series),
        epsilon,
        f"{len(point.values)}",
        f"{point.mean:.4g}",
        "one run" if point.deviation is None else f"{point.deviation:.2g}",
        ", ".join(map(given, point.runs)),
    )
