"""The first page of the report of a run: what a privacy officer has to know."""

from collections.abc import Iterator

from dpft.accounting import RunRecord, Unit, UserPoissonGaussian
from dpft.accounting.inputs import InputStatus
from dpft.accounting.run_record import SelectionStatus
from dpft.explanation import in_words, touched_in_words
from dpft.reporting.audits import audit_in_short
from dpft.reporting.facts import Facts
from dpft.reporting.given import given
from dpft.reporting.promises import (
    accountant_in_words,
    curve,
    guaranteed,
    meaning,
    neighbours_in_words,
    outside,
    spent_in_words,
)
from dpft.reporting.section import Page, Section, Table

__all__ = ["officer_page"]

_SELECTION = {
    SelectionStatus.NONE: "fixed beforehand, without looking at records",
    SelectionStatus.ACCOUNTED: "by a private mechanism that epsilon counts",
    SelectionStatus.NOT_ACCOUNTED: "not accounted: nothing is claimed on how they were chosen",
}
_INPUTS = {
    InputStatus.PUBLIC: "declared public",
    InputStatus.CERTIFIED: "with a certificate, whose runs are counted",
    InputStatus.UNKNOWN: "unknown: nothing can be promised",
}
_COVERED = "On synthetic records, as the run stated them. A digest in the certificate covers them."
_NOT_COVERED = (
    "On synthetic records, as the run stated them in report.md. No digest covers them: the run is "
    "of a version that wrote none."
)


def officer_page(facts: Facts) -> Page:
    """Return the page for a privacy officer.

    Args:
        facts: What the report states.

    Privacy:
        Released values and given names.
    """
    return Page(
        "For the privacy officer",
        (
            _guarantee(facts),
            meaning(facts.guarantee),
            _mechanism(facts),
            *([curve(facts.guarantee)] if facts.is_private else []),
            _ledger(facts),
            outside(facts.certificate),
            _checks(facts),
            *([audit_in_short(facts)] if facts.is_private else []),
        ),
    )


def _guarantee(facts: Facts) -> Section:
    sources, claim = facts.sources, facts.guarantee.claim
    accountant = accountant_in_words(facts.certificate.accountant, claim.numerical_error)
    rows = [
        ("Data set", touched_in_words(facts.run)),
        ("Unit of privacy", f"one {facts.certificate.unit.value} of the training data"),
        ("Neighbouring data sets", neighbours_in_words(facts.certificate)),
        ("Guarantee", guaranteed(facts.epsilon, facts.delta)),
        *([] if facts.target is None else [("Asked for", f"epsilon = {facts.target:g}")]),
        ("Accountant", accountant),
        ("Started from", _inputs(facts)),
        ("Choice of settings", _SELECTION[facts.run.selection]),
        ("Evaluation", sources.statement.rows.get("Evaluation", "not stated")),
        ("Certificate (SHA-256)", sources.publication.digest),
    ]
    return Section(title="Guarantee", table=Table((), tuple(rows)))


def _inputs(facts: Facts) -> str:
    named = [f"{given(each.name)} ({_INPUTS[each.status]})" for each in facts.run.inputs]
    return ", ".join(named) or "a public base model"


def _mechanism(facts: Facts) -> Section:
    run = facts.run
    rows = [
        ("Mechanism", in_words(run.mechanism) if run.private else "NOT PRIVATE"),
        ("Sampler", run.sampler),
        ("Sample", _sample(run)),
        ("Clipping", _clipping(facts)),
        ("Randomness", run.generator),
    ]
    others = [each for each in facts.certificate.runs if each != run]
    rows += [
        ("Counted too", f"{given(each.run_id[:12])}: {in_words(each.mechanism)}") for each in others
    ]
    return Section(title="How it was made", table=Table((), tuple(rows)))


def _sample(run: RunRecord) -> str:
    whole = run.unit is Unit.USER and not isinstance(run.mechanism, UserPoissonGaussian)
    sampled = "users" if whole else "records"
    size = "not stated" if run.expected_batch_size is None else f"{run.expected_batch_size}"
    total = "a number that is not public" if run.num_records is None else f"{run.num_records}"
    return f"{size} {sampled} expected of {total}; the realised sizes are secret"


def _clipping(facts: Facts) -> str:
    run = facts.run
    named = given(run.clipping)
    return named if run.clip_norm is None else f"{named}, clip norm {run.clip_norm:g}"


def _ledger(facts: Facts) -> Section:
    reference = facts.run.ledger
    if reference is None:
        text = "None: the run is in no ledger, so nothing stops further runs on these records."
        return Section(title="Ledger", texts=(text,))
    rows = [
        ("Entry", f"{reference.entry}"),
        ("Head (SHA-256)", reference.head),
        ("Budget, as the run stated it", facts.sources.statement.rows.get("Budget", "not stated")),
        *_position(facts),
    ]
    texts = () if facts.ledger else ("Before and after: give the ledger to dpft report --ledger.",)
    return Section(title="Ledger", texts=texts, table=Table((), tuple(rows)))


def _position(facts: Facts) -> Iterator[tuple[str, str]]:
    found = facts.ledger
    if found is None:
        return
    at = f"at delta = {found.delta:.3g}"
    yield "Data set in the ledger", found.dataset
    yield "Spent before this run", f"{spent_in_words(found.before)} {at}"
    yield "Spent with this run", f"{spent_in_words(found.after)} {at}"
    yield "Budget", "none is set" if found.budget is None else f"epsilon = {found.budget:g} {at}"


def _checks(facts: Facts) -> Section:
    sources = facts.sources
    if not sources.checks:
        text = "None: the run was not private." if not facts.is_private else "None is stated."
        return Section(title="Checks before the first step", texts=(text,))
    text = _COVERED if sources.preflight is not None else _NOT_COVERED
    table = Table(("check", "value", "tolerance", "verdict"), sources.checks)
    return Section(title="Checks before the first step", texts=(text,), table=table)
