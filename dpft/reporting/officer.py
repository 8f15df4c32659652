"""The first page of a report: what a privacy officer has to know."""

import math
from collections.abc import Iterator

from dpft.accounting import Adjacency, Unit
from dpft.accounting.inputs import InputStatus
from dpft.accounting.profile import AttackBound
from dpft.accounting.run_record import SelectionStatus
from dpft.explanation import in_words, touched_in_words
from dpft.rendering import basis_in_words, percent_rounded_up, rounded_up
from dpft.reporting.facts import Facts
from dpft.reporting.section import Page, Section, Table

__all__ = ["officer_page"]

_NEIGHBOURS = {
    Adjacency.ADD_OR_REMOVE: "one {unit} is there or not (add or remove)",
    Adjacency.ZERO_OUT: "one {unit} counts or contributes nothing (zero-out); how many there are "
    "is declared public",
    Adjacency.REPLACE_ONE: "one {unit} is exchanged for any other (replace one)",
}
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
_ACCOUNTANTS = {
    "pld": "privacy loss distributions, rounded from above: the true epsilon is not larger",
    "rdp": "Rényi differential privacy: an upper bound, often a tenth or more above the truth",
    "prv": "numerical composition by Opacus, upper end of its interval",
}
_LARGEST_EXPONENT = 14.0  # beyond a million nobody counts the digits
_EMPTY_FROM = 0.9995
_ALWAYS_OUTSIDE = (
    "That the training was carried out as stated. No inspection of weights can prove it; the "
    "digests only tie this statement to them."
)
_SEVERAL_RECORDS = "Several records of one person: the unit is one record, and their costs add up."


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
            _meaning(facts),
            _mechanism(facts),
            *([_curve(facts)] if facts.is_private else []),
            _ledger(facts),
            _outside(facts),
            _checks(facts),
        ),
    )


def _guarantee(facts: Facts) -> Section:
    unit = facts.certificate.unit.value
    rows = [
        ("Data set", touched_in_words(facts.run)),
        ("Unit of privacy", f"one {unit} of the training data"),
        ("Neighbouring data sets", _NEIGHBOURS[facts.certificate.adjacency].format(unit=unit)),
        ("Guarantee", _guaranteed(facts)),
        *([] if facts.target is None else [("Asked for", f"epsilon = {facts.target:g}")]),
        ("Accountant", _accountant(facts)),
        ("Started from", _inputs(facts)),
        ("Choice of settings", _SELECTION[facts.run.selection]),
        ("Evaluation", facts.sources.statement.rows.get("Evaluation", "not stated")),
        ("Certificate (SHA-256)", facts.sources.publication.digest),
    ]
    return Section(title="Guarantee", table=Table((), tuple(rows)))


def _guaranteed(facts: Facts) -> str:
    if not facts.is_private:
        return "none: epsilon is infinite"
    return f"epsilon = {rounded_up(facts.epsilon)} at delta = {facts.delta:.3g}"


def _accountant(facts: Facts) -> str:
    name = facts.certificate.accountant
    error = facts.sources.claim.numerical_error
    said = f"{name}: {_ACCOUNTANTS.get(name, 'registered by whoever ran it')}"
    return said if error is None else f"{said}; its grid adds about {error:.1g} to epsilon"


def _inputs(facts: Facts) -> str:
    named = [f"{each.name} ({_INPUTS[each.status]})" for each in facts.run.inputs]
    return ", ".join(named) or "a public base model"


def _meaning(facts: Facts) -> Section:
    if not facts.is_private:
        text = "Nothing is promised: treat the weights as if they were the training data."
        return Section(title="What it means", texts=(text,))
    unit = facts.certificate.unit.value
    compared = (
        f"Compare this training with one on a neighbouring data set. Whatever somebody concludes "
        f"from the weights, and whatever else that person knows, the probability of that "
        f"conclusion in one case is at most {_factor(facts.epsilon)} times that in the other, plus "
        f"{facts.delta:.3g}."
    )
    _, bound = facts.attacks[0]
    guessed = (
        f"An attacker guesses whether a given {unit} was in the training data. The table says "
        f"which share of those that were the best attacker can detect at most "
        f"({basis_in_words(bound, facts.delta)})."
    )
    rows = tuple(_attack(rate, bound) for rate, bound in facts.attacks)
    head = ("false alarms among those that were not", "detected at most")
    return Section(
        title="What it means",
        texts=(compared, guessed),
        table=Table(head, rows),
        figure="trade_off",
    )


def _factor(epsilon: float) -> str:
    """Return by how much an outcome may become likelier, never understated."""
    small = epsilon < _LARGEST_EXPONENT
    return rounded_up(math.exp(epsilon)) if small else f"e^{rounded_up(epsilon)}"


def _attack(rate: float, bound: AttackBound) -> tuple[str, str]:
    empty = "; this excludes no attack" * (bound.rate >= _EMPTY_FROM)
    return f"{rate * 100:g}%", f"{percent_rounded_up(bound.rate)}{empty}"


def _mechanism(facts: Facts) -> Section:
    run = facts.run
    rows = [
        ("Mechanism", in_words(run.mechanism) if run.private else "NOT PRIVATE"),
        ("Sampler", run.sampler),
        ("Sample", _sample(facts)),
        ("Clipping", _clipping(facts)),
        ("Randomness", run.generator),
    ]
    others = [each for each in facts.certificate.runs if each != run]
    rows += [("Counted too", f"{each.run_id[:12]}: {in_words(each.mechanism)}") for each in others]
    return Section(title="How it was made", table=Table((), tuple(rows)))


def _sample(facts: Facts) -> str:
    run = facts.run
    size = "not stated" if run.expected_batch_size is None else f"{run.expected_batch_size}"
    total = "a number that is not public" if run.num_records is None else f"{run.num_records}"
    return f"{size} records expected of {total}; the realised sizes are secret"


def _clipping(facts: Facts) -> str:
    run = facts.run
    return run.clipping if run.clip_norm is None else f"{run.clipping}, clip norm {run.clip_norm:g}"


def _curve(facts: Facts) -> Section:
    text = "Epsilon and delta belong together. All of these pairs hold at once."
    rows = tuple((f"{delta:.3g}", rounded_up(spent)) for delta, spent in facts.by_delta)
    return Section(
        title="The guarantee at other deltas",
        texts=(text,),
        table=Table(("delta", "epsilon"), rows),
        figure="by_delta",
    )


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
    yield "Spent before this run", f"{_spent(found.before)} {at}"
    yield "Spent with this run", f"{_spent(found.after)} {at}"
    yield "Budget", "none is set" if found.budget is None else f"epsilon = {found.budget:g} {at}"


def _spent(epsilon: float | None) -> str:
    if epsilon is None:
        return "epsilon cannot be added up"
    return f"epsilon = {'infinite' if math.isinf(epsilon) else rounded_up(epsilon)}"


def _outside(facts: Facts) -> Section:
    excluded = dict.fromkeys(each for run in facts.certificate.runs for each in run.excluded)
    of_records = (_SEVERAL_RECORDS,) if facts.certificate.unit is Unit.RECORD else ()
    return Section(title="What is not covered", items=(*excluded, *of_records, _ALWAYS_OUTSIDE))


def _checks(facts: Facts) -> Section:
    checks = facts.sources.statement.checks
    if not checks:
        text = "None: the run was not private." if not facts.is_private else "None is stated."
        return Section(title="Checks before the first step", texts=(text,))
    text = "On synthetic records, as the run stated them."
    table = Table(("check", "value", "tolerance", "verdict"), checks)
    return Section(title="Checks before the first step", texts=(text,), table=table)
