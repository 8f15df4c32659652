"""A certificate in words that a privacy officer can read. No torch in here."""

import dataclasses
import math

from dpft.accounting import DEFAULT_GRID, Adjacency, Certificate, Mechanism, RunRecord, steps_of
from dpft.accounting.inputs import Input, InputStatus
from dpft.accounting.profile import AttackBound
from dpft.accounting.run_record import SelectionStatus
from dpft.rendering import basis_in_words, percent_rounded_up, render, rounded_up

__all__ = ["explain", "in_words", "planned_delta", "touched_in_words"]

_FALSE_ALARM_RATE = 0.01
_NEIGHBOURS = {
    Adjacency.ADD_OR_REMOVE: "in one of which the data of one {unit} are missing",
    Adjacency.ZERO_OUT: (
        "in one of which one {unit} counts for nothing; how many there are is public"
    ),
    Adjacency.REPLACE_ONE: "in one of which one {unit} was exchanged for any other",
}
_ACCOUNTANTS = {
    "pld": (
        "Privacy loss distributions, discretised from above on a grid of "
        f"{DEFAULT_GRID.value_discretization_interval:g} or coarser: its error raises "
        "epsilon and never lowers it."
    ),
    "rdp": "Renyi differential privacy: an upper bound, often a tenth or more above the truth.",
    "prv": (
        "The upper end of the interval that the numerical accountant of Opacus states, errors of "
        "its grid included."
    ),
}
_SELECTION = {
    SelectionStatus.NONE: "fixed beforehand, without looking at records",
    SelectionStatus.ACCOUNTED: "chosen by a private mechanism that is counted",
    SelectionStatus.NOT_ACCOUNTED: (
        "nothing is claimed; choosing them by looking at other runs on the same records costs "
        "more than is counted here"
    ),
}
_STATUS = {
    InputStatus.PUBLIC: "declared public by whoever ran it; nothing is counted for it",
    InputStatus.CERTIFIED: "it has a certificate, whose runs are counted here",
    InputStatus.UNKNOWN: "nobody knows what it holds of private records",
}
_NUMBERS = {
    "noise_multiplier": "noise of {} times the clip norm",
    "sample_rate": "rate {}",
    "steps": "{} steps",
    "participations": "at most {} of them with one record",
    "granularity": "on a grid of {} clip norms",
    "dimension": "at most {} entries",
    "rounded_sensitivity": "moved by {} clip norms, rounding included",
    "records_per_user": "at most {} records of a user",
    "scale": "noise of {} times the sensitivity",
    "epsilon": "epsilon {}",
    "delta": "delta {}",
    "mean": "{} repetitions in the mean",
}


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What the page states of the whole."""

    certificate: Certificate
    delta: float
    epsilon: float
    binding: tuple[RunRecord, ...]
    error: float | None

    @property
    def factor(self) -> str:
        """How much more likely any outcome may become, never understated."""
        return rounded_up(math.exp(min(self.epsilon, 700.0)))

    @property
    def detected(self) -> str:
        return percent_rounded_up(self._attack.rate)

    @property
    def detected_from(self) -> str:
        return basis_in_words(self._attack, self.delta)

    @property
    def _attack(self) -> AttackBound:
        return self.certificate.attack_bound(_FALSE_ALARM_RATE, self.delta)


def explain(certificate: Certificate, delta: float | None = None) -> str:
    """Say what a certificate promises, how that was computed, and what it leaves out.

    Args:
        certificate: Any.
        delta: At which delta; unset: that of the plan, the smallest of several.

    Returns:
        Text in Markdown; its first line says NOT PRIVATE where nothing is promised.

    Raises:
        ConfigurationError: As for `Certificate.epsilon`.

    Privacy:
        Nothing, no data touched: public numbers and given names
        (`tests/dpft/test_explanation.py`).
    """
    at = planned_delta(certificate) if delta is None else delta
    facts = _Facts(certificate, at, *certificate.binding(at), certificate.numerical_error(at))
    unit = certificate.unit.value
    excluded = dict.fromkeys(sentence for run in certificate.runs for sentence in run.excluded)
    inputs = dict.fromkeys(each for run in certificate.runs for each in run.inputs)
    return render(
        "certificate.md.j2",
        facts=facts,
        unit=unit,
        neighbours=_NEIGHBOURS[certificate.adjacency].format(unit=unit),
        false_alarms=f"{_FALSE_ALARM_RATE:.0%}",
        accountant=_ACCOUNTANTS.get(certificate.accountant, certificate.accountant),
        runs=[_run(run, certificate) for run in certificate.runs],
        inputs=[_input(each) for each in inputs],
        excluded=list(excluded),
    )


def planned_delta(certificate: Certificate) -> float:
    """Return the delta at which a certificate is read: the smallest that a run was planned with.

    Args:
        certificate: Any.

    Privacy:
        Nothing, no data touched.
    """
    return min(run.delta for run in certificate.runs)


def in_words(mechanism: Mechanism | None) -> str:
    """Return a mechanism in one line.

    Args:
        mechanism: Any, or None for a run without noise.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> from dpft.accounting import PoissonGaussian
        >>> in_words(PoissonGaussian(0.6, 0.25, 40))
        'poisson gaussian: noise of 0.6 times the clip norm, rate 0.25, 40 steps'
    """
    if mechanism is None:
        return "no noise at all"
    numbers = [
        words.format(f"{getattr(mechanism, name):.6g}")
        for name, words in _NUMBERS.items()
        if hasattr(mechanism, name)
    ]
    parts = [getattr(mechanism, "base", None), *getattr(mechanism, "parts", ())]
    inner = [f"[{in_words(part)}]" for part in parts if part is not None]
    numbers = numbers or [f"{steps_of(mechanism)} steps"] * (not inner)
    return f"{mechanism.kind.replace('_', ' ')}: {', '.join([*numbers, *inner])}"


def touched_in_words(run: RunRecord) -> str:
    """Return the data sets that a run touched, with their parts.

    Args:
        run: Any.

    Privacy:
        Nothing, no data touched: given names.
    """
    return " and ".join(
        use.dataset_id
        if use.partition is None
        else f"{use.dataset_id} (part {use.partition.part} by {use.partition.rule})"
        for use in run.touched
    )


def _run(run: RunRecord, certificate: Certificate) -> dict[str, str]:
    asked = "" if run.adjacency is certificate.adjacency else run.adjacency.value
    return {
        "name": run.run_id[:12],
        "data": touched_in_words(run),
        "mechanism": in_words(run.mechanism) if run.private else "NOT PRIVATE",
        "sampler": run.sampler,
        "generator": run.generator,
        "selection": _SELECTION[run.selection],
        "stated_for": asked,
        "ledger": "" if run.ledger is None else f"entry {run.ledger.entry}, {run.ledger.head[:12]}",
    }


def _input(given: Input) -> dict[str, str]:
    role = given.role.value.replace("_", " ")
    return {"name": given.name, "role": role, "status": _STATUS[given.status]}
