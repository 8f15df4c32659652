"""The sections that every report with a guarantee shares: what it promises, and what not."""

import math

from dpft.accounting import Adjacency, Certificate, Unit
from dpft.accounting.profile import AttackBound
from dpft.rendering import basis_in_words, percent_rounded_up, rounded_up
from dpft.reporting.guarantee import Guarantee
from dpft.reporting.section import Section, Table

__all__ = [
    "accountant_in_words",
    "curve",
    "guaranteed",
    "meaning",
    "neighbours_in_words",
    "outside",
    "spent_in_words",
]

_NEIGHBOURS = {
    Adjacency.ADD_OR_REMOVE: "one {unit} is there or not (add or remove)",
    Adjacency.ZERO_OUT: "one {unit} counts or contributes nothing (zero-out); how many there are "
    "is declared public",
    Adjacency.REPLACE_ONE: "one {unit} is exchanged for any other (replace one)",
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


def guaranteed(epsilon: float, delta: float) -> str:
    """Return a guarantee in words.

    Args:
        epsilon: >= 0, or infinite.
        delta: At which.

    Privacy:
        Nothing, no data touched.
    """
    if math.isinf(epsilon):
        return "none: epsilon is infinite"
    return f"epsilon = {rounded_up(epsilon)} at delta = {delta:.3g}"


def spent_in_words(epsilon: float | None) -> str:
    """Return what was spent, also where that is infinite or not known.

    Args:
        epsilon: >= 0, infinite, or None if no accountant can say.

    Privacy:
        Nothing, no data touched.
    """
    if epsilon is None:
        return "epsilon cannot be added up"
    return f"epsilon = {'infinite' if math.isinf(epsilon) else rounded_up(epsilon)}"


def neighbours_in_words(certificate: Certificate) -> str:
    """Return which data sets are neighbours, for the unit of a certificate.

    Args:
        certificate: Any.

    Privacy:
        Nothing, no data touched.
    """
    return _NEIGHBOURS[certificate.adjacency].format(unit=certificate.unit.value)


def accountant_in_words(name: str, numerical_error: float | None = None) -> str:
    """Return what an accountant is, and by how much its grid may raise epsilon.

    Args:
        name: As registered.
        numerical_error: None if not stated.

    Privacy:
        Nothing, no data touched.
    """
    said = f"{name}: {_ACCOUNTANTS.get(name, 'registered by whoever ran it')}"
    if numerical_error is None:
        return said
    return f"{said}; its grid adds about {numerical_error:.1g} to epsilon"


def meaning(guarantee: Guarantee) -> Section:
    """Return the section on what the numbers mean for an attacker.

    Args:
        guarantee: Of a run or of a merge.

    Privacy:
        Nothing, no data touched.
    """
    if not guarantee.is_private:
        text = "Nothing is promised: treat the weights as if they were the training data."
        return Section(title="What it means", texts=(text,))
    unit, delta = guarantee.certificate.unit.value, guarantee.delta
    compared = (
        f"Compare this training with one on a neighbouring data set. Whatever somebody concludes "
        f"from the weights, and whatever else that person knows, the probability of that "
        f"conclusion in one case is at most {_factor(guarantee.epsilon)} times that in the other, "
        f"plus {delta:.3g}."
    )
    _, bound = guarantee.attacks[0]
    guessed = (
        f"An attacker guesses whether a given {unit} was in the training data. The table says "
        f"which share of those that were the best attacker can detect at most "
        f"({basis_in_words(bound, delta)})."
    )
    rows = tuple(_attack(rate, bound) for rate, bound in guarantee.attacks)
    head = ("false alarms among those that were not", "detected at most")
    table = Table(head, rows)
    texts = (compared, guessed)
    return Section(title="What it means", texts=texts, table=table, figure="trade_off")


def _factor(epsilon: float) -> str:
    """Return by how much an outcome may become likelier, never understated."""
    small = epsilon < _LARGEST_EXPONENT
    return rounded_up(math.exp(epsilon)) if small else f"e^{rounded_up(epsilon)}"


def _attack(rate: float, bound: AttackBound) -> tuple[str, str]:
    empty = "; this excludes no attack" * (bound.rate >= _EMPTY_FROM)
    return f"{rate * 100:g}%", f"{percent_rounded_up(bound.rate)}{empty}"


def curve(guarantee: Guarantee) -> Section:
    """Return the section on epsilon at other deltas.

    Args:
        guarantee: With a finite epsilon.

    Privacy:
        Nothing, no data touched.
    """
    text = "Epsilon and delta belong together. All of these pairs hold at once."
    rows = tuple((f"{delta:.3g}", rounded_up(spent)) for delta, spent in guarantee.by_delta)
    return Section(
        title="The guarantee at other deltas",
        texts=(text,),
        table=Table(("delta", "epsilon"), rows),
        figure="by_delta",
    )


def outside(certificate: Certificate) -> Section:
    """Return the section on what the guarantee leaves out.

    Args:
        certificate: All runs that are counted.

    Privacy:
        Nothing, no data touched.
    """
    excluded = dict.fromkeys(each for run in certificate.runs for each in run.excluded)
    of_records = (_SEVERAL_RECORDS,) if certificate.unit is Unit.RECORD else ()
    return Section(title="What is not covered", items=(*excluded, *of_records, _ALWAYS_OUTSIDE))
