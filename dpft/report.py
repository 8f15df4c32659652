"""The page for an auditor: what is promised, by which algorithm, and what is not covered.

Public numbers and names only. No torch in here.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from dpft.accounting import DEFAULT_GRID, Adjacency, Certificate, RepeatAndSelect, RunRecord
from dpft.accounting.run_record import SelectionStatus
from dpft.charges import RunHistory
from dpft.held_out import metric_id
from dpft.privacy import ClippingStyle, EvaluationStatus, Privacy, PrivacyPlan
from dpft.rendering import inline, render
from dpft.run_folder import environment, write_whole

__all__ = ["Check", "Preflight", "ReportFacts", "detection_bound", "write_report"]

_FALSE_ALARM_RATE = 0.01
_NEIGHBOURS = {
    Adjacency.ADD_OR_REMOVE: "one record is there or not (add or remove)",
    Adjacency.ZERO_OUT: (
        "one record counts or contributes nothing at all (zero-out); the number of records is "
        "declared public"
    ),
    Adjacency.REPLACE_ONE: "one record is exchanged for any other (replace one)",
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


def detection_bound(epsilon: float, delta: float, false_alarm_rate: float) -> float:
    """Bound how often an attacker detects a record at a given rate of false alarms.

    Args:
        epsilon: Of the guarantee, >= 0.
        delta: Of the guarantee, in [0, 1].
        false_alarm_rate: Share of absent records that the attacker calls present, in [0, 1].

    Returns:
        Largest possible share of present records that are called present.

    Privacy:
        Nothing, no data touched.

    References:
        Kairouz et al. 2015 (1311.0776), theorem 2.1.

    Example:
        >>> round(detection_bound(1.0, 0.0, 0.01), 4)
        0.0272
    """
    if not math.isfinite(epsilon):
        return 1.0
    low = math.exp(min(epsilon, 700.0)) * false_alarm_rate + delta
    high = 1.0 - math.exp(-epsilon) * (1.0 - delta - false_alarm_rate)
    return min(low, high, 1.0)


def _values(facts: ReportFacts) -> dict[str, Any]:
    run, plan = facts.run, facts.plan
    bound = detection_bound(facts.epsilon, run.delta, _FALSE_ALARM_RATE)
    return {
        "facts": facts,
        "run": run,
        "plan": plan,
        "history": facts.history,
        "neighbours": _NEIGHBOURS[facts.adjacency],
        "clipping": _CLIPPING[plan.privacy.clipping],
        "grid": f"{DEFAULT_GRID.value_discretization_interval:g}",
        "false_alarms": f"{_FALSE_ALARM_RATE:.0%}",
        "detected": _percent_rounded_up(bound),
        "evaluation": _evaluation(plan),
        "selection": _selection(run),
        "environment": environment(),
    }


def _percent_rounded_up(share: float) -> str:
    """Never understate: 2.711% becomes 2.72%."""
    return f"{math.ceil(share * 10_000) / 100:.2f}%"


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
