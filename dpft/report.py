"""The page for an auditor: what is promised, by which algorithm, and what is not covered.

Public numbers and names only. No torch in here.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from dpft.accounting import (
    DEFAULT_GRID,
    Adjacency,
    Certificate,
    DiscreteGaussian,
    RepeatAndSelect,
    RunRecord,
    Unit,
)
from dpft.accounting.profile import AttackBound, detection_bound
from dpft.accounting.run_record import SelectionStatus
from dpft.charges import RunHistory
from dpft.declarations import floats_in_words
from dpft.held_out import metric_id
from dpft.privacy import ClippingStyle, EvaluationStatus, NoiseKind, Privacy, PrivacyPlan
from dpft.rendering import basis_in_words, inline, percent_rounded_up, render
from dpft.run_folder import environment, write_whole

__all__ = ["Check", "Preflight", "ReportFacts", "write_report"]

_FALSE_ALARM_RATE = 0.01
_NEIGHBOURS = {
    Adjacency.ADD_OR_REMOVE: "one {unit} is there or not (add or remove)",
    Adjacency.ZERO_OUT: (
        "one {unit} counts or contributes nothing at all (zero-out); the number of {counted} is "
        "declared public"
    ),
    Adjacency.REPLACE_ONE: "one {unit} is exchanged for any other (replace one)",
}
_CLIPPING = {
    ClippingStyle.FLAT: "scaled by min(1, C / norm)",
    ClippingStyle.AUTO_S: "scaled by C / (norm + 0.01), AUTO-S",
}


class Check(Protocol):
    """What the report needs to know of one check before the first step."""

    @property
    def name(self) -> str:
        """What was checked."""
        ...

    @property
    def value(self) -> float:
        """What was found."""
        ...

    @property
    def tolerance(self) -> float:
        """Largest value that passes."""
        ...

    @property
    def passed(self) -> bool:
        """Whether it passed."""
        ...


class Preflight(Protocol):
    """What the report needs to know of the checks before the first step."""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        ...

    @property
    def checks(self) -> Sequence[Check]:
        """The checks, in order."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """What a report states.

    Args:
        plan: The algorithm that ran.
        run: Its entry in the certificate.
        epsilon: What the run and those it started from spent at the plan's delta; infinite if one
            of them was not private.
        preflight: Checks before the first step; None where there were none.
        history: Starts of the process, steps charged, updates kept.
        certificate: All runs that epsilon counts; None where there is no other.
        budget: Which budgets the run was charged to; None if it is in no ledger.
        notes: Public sentences on the data.
        pinned_randomness: Whether a test chose the randomness: then nothing is private.
        title: First heading.

    Privacy:
        All fields are public.
    """

    plan: PrivacyPlan
    run: RunRecord
    epsilon: float
    preflight: Preflight | None
    history: RunHistory
    certificate: Certificate | None = None
    budget: str | None = None
    notes: tuple[str, ...] = ()
    pinned_randomness: bool = False
    title: str = "Privacy report"

    @property
    def is_private(self) -> bool:
        """Whether the guarantee holds."""
        promised = self.run.private and self.plan.is_private and math.isfinite(self.epsilon)
        return promised and not self.pinned_randomness

    @property
    def earlier(self) -> int:
        """Number of earlier runs that epsilon counts too."""
        own = {self.run.run_id, metric_id(self.run.run_id)}
        known = () if self.certificate is None else self.certificate.runs
        return sum(run.run_id not in own for run in known)

    @property
    def adjacency(self) -> Adjacency:
        """The neighbouring relation of the guarantee: the coarsest of all runs'."""
        if self.certificate is None or not self.is_private:
            return self.run.adjacency
        return self.certificate.adjacency


def write_report(folder: Path, facts: ReportFacts) -> Path:
    """Write the report of a run.

    Args:
        folder: Existing folder of the run.
        facts: What the report states.

    Returns:
        The file, `report.md`.

    Privacy:
        Releases public numbers and given names only. A run without a guarantee says NOT PRIVATE on
        its first line (`tests/dpft/test_report.py::test_first_line_of_an_unsafe_run`).
    """
    path = folder / "report.md"
    write_whole(path, render("report.md.j2", **_values(facts)))
    return path


def _values(facts: ReportFacts) -> dict[str, Any]:
    run, plan = facts.run, facts.plan
    bound = _attack_bound(facts)
    return {
        "discrete": _discrete(plan),
        "floats": floats_in_words(plan.privacy),
        "facts": facts,
        "run": run,
        "plan": plan,
        "history": facts.history,
        "clipped": _clipped(plan.privacy),
        "neighbours": _NEIGHBOURS[facts.adjacency].format(
            unit=run.unit.value, counted="users" if plan.privacy.samples_users else "records"
        ),
        "owned": _owned(plan.privacy),
        "clipping": _CLIPPING[plan.privacy.clipping],
        "grid": f"{DEFAULT_GRID.value_discretization_interval:g}",
        "false_alarms": f"{_FALSE_ALARM_RATE:.0%}",
        "detected": percent_rounded_up(bound.rate),
        "detected_from": basis_in_words(bound, run.delta),
        "evaluation": _evaluation(plan),
        "selection": _selection(run),
        "environment": environment(),
    }


def _discrete(plan: PrivacyPlan) -> DiscreteGaussian | None:
    """Return the run with integer noise, None with any other or without."""
    on_grid = plan.is_private and plan.privacy.noise is NoiseKind.DISCRETE_GAUSSIAN
    return plan.discrete if on_grid else None


def _clipped(privacy: Privacy) -> str:
    """Return what is clipped as a whole."""
    if privacy.samples_users:
        return "each user's joint gradient (the mean over all the user's records)"
    return "each record's whole gradient"


def _owned(privacy: Privacy) -> str | None:
    """Return how the records of a user are counted, None where the unit is a record."""
    if privacy.covers is Unit.RECORD:
        return None
    if privacy.samples_users:
        return "a user enters a step with all records or with none"
    return (
        f"at most {privacy.records_per_user} of each user, the first by a keyed hash of their "
        "content; further ones are never used, and epsilon counts so many"
    )


def _attack_bound(facts: ReportFacts) -> AttackBound:
    """Return the bound of all runs that are counted; of epsilon alone where they are not given."""
    if facts.certificate is not None and facts.is_private:
        return facts.certificate.attack_bound(_FALSE_ALARM_RATE, facts.run.delta)
    rate = detection_bound(facts.epsilon, facts.run.delta, _FALSE_ALARM_RATE)
    return AttackBound(rate, from_curve=False)


def _evaluation(plan: PrivacyPlan) -> str:
    privacy = plan.privacy
    if privacy.evaluation is EvaluationStatus.NOISY:
        return (
            "noisy: metrics on held-out records carry discrete Laplace noise and cost these "
            f"records epsilon = {privacy.evaluation_epsilon:g} each, {_part_of(privacy)}"
        )
    if privacy.evaluation is EvaluationStatus.PUBLIC:
        return "public: metrics were taken on records declared public"
    return "none: no metric on held-out records is released"


def _part_of(privacy: Privacy) -> str:
    if privacy.evaluation_split is None:
        return "which is part of the epsilon above: a record may be held out and trained on"
    return (
        f"and no record is both held out and trained on ({inline(privacy.evaluation_split)}): the "
        "epsilon above is the larger of the two"
    )


def _selection(run: RunRecord) -> str:
    if run.selection is SelectionStatus.NONE:
        return "none: they were fixed beforehand, without looking at records"
    if run.selection is SelectionStatus.NOT_ACCOUNTED:
        return "not accounted: nothing is claimed on how they were chosen"
    event = run.mechanism
    if not isinstance(event, RepeatAndSelect):
        return "by a mechanism that is part of the certificate"
    shape = event.shape if isinstance(event.shape, str) else f"shape {event.shape:g}"
    return (
        f"the best of a secret number of trials ({event.mean:g} on average, {shape}), each with "
        "settings drawn from a public list; epsilon counts all trials and the choice, the rows "
        "above and below describe one trial"
    )
