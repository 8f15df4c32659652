"""Private choice of hyper-parameters: the best of a secret number of trials, with one guarantee.

A number of trials is drawn; each trains with settings drawn from a public list and is scored; the
best one is kept. All of it happens in memory: there is no folder that could tell how many trials
there were, and nothing to resume. What it costs is charged as a whole before the first trial. No
torch in here.
"""

import dataclasses
import logging
import math
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Generic, TypeVar

from dpft.accounting import (
    Accountant,
    Composed,
    Mechanism,
    PrivacyTarget,
    RepeatAndSelect,
    epsilon,
)
from dpft.accounting.selection import TrialCount, calibrate_trial
from dpft.booked_events import Apart, book_event
from dpft.booking import Booking
from dpft.errors import ConfigurationError
from dpft.held_out import held_out_name
from dpft.privacy import EvaluationStatus, Privacy, PrivacyMode, PrivacyPlan
from dpft.processes_launcher import refuse_several_processes

__all__ = ["Scored", "TuningPlan", "best_of_trials", "charge", "plan_tuning", "silence"]

_Row = Mapping[str, Any]
_Candidate = TypeVar("_Candidate")
_Released = TypeVar("_Released")


@dataclasses.dataclass(frozen=True)
class Scored(Generic[_Released]):
    """What one trial would release, and how good it is.

    Args:
        released: Everything that is released if the trial is chosen.
        score: Higher is better. It is a function of what the trial's mechanism releases: of the
            model and public records, or noisy.

    Privacy:
        Only the best of all trials may be shown.
    """

    released: _Released
    score: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """What a selection will do, in public numbers only.

    Args:
        count: The distribution of the number of trials.
        trial: The plan of each trial; its noise is such that the whole selection meets the target.
        training: What the training records are charged: all trials and the choice.
        held_out: What held-out records are charged that a public rule keeps apart from them; None
            if there are none or the score on them is part of `training`.

    Privacy:
        Nothing, no data touched.
    """

    count: TrialCount
    trial: PrivacyPlan
    training: RepeatAndSelect
    held_out: RepeatAndSelect | None = None

    @property
    def events(self) -> tuple[RepeatAndSelect, ...]:
        """What is charged: one event for each set of records; a record is in one of them."""
        return (self.training,) if self.held_out is None else (self.training, self.held_out)

    @property
    def epsilon(self) -> float:
        """Epsilon of the whole selection at the plan's delta, by Renyi divergences."""
        delta = self.trial.privacy.delta
        return max(epsilon(event, delta, accountant=Accountant.RDP) for event in self.events)


def plan_tuning(privacy: Privacy, row_count: int, count: TrialCount) -> TuningPlan:
    """Fix every public number of a selection.

    Args:
        privacy: The guarantee asked for, of the whole selection: `epsilon` is that of all trials
            and the choice together. Its `accountant` is ``rdp``.
        row_count: Number of training records; used only if `num_records` is unset.
        count: The distribution of the number of trials.

    Returns:
        The plan; its trials have a noise multiplier instead of a target.

    Raises:
        ConfigurationError: If there is no score, no privacy, another accountant, or the target
            cannot be met.

    Privacy:
        Nothing, no data touched (`test_the_whole_selection_meets_its_target`,
        `test_a_private_score_takes_part_of_the_guarantee`).

    References:
        Papernot and Steinke 2021 (2110.03620), theorems 2 and 6.
    """
    _refuse_unfit(privacy)
    shape = dataclasses.replace(privacy, epsilon=None, noise_multiplier=1.0).plan(row_count)

    def trained(noise_multiplier: float) -> PrivacyPlan:
        exact = dataclasses.replace(privacy, epsilon=None, noise_multiplier=noise_multiplier)
        return dataclasses.replace(shape, privacy=exact, noise_multiplier=noise_multiplier)

    score = privacy.metric(shape.length.adjacency)
    apart = privacy.evaluation_split is not None

    def on_training_records(noise_multiplier: float) -> Mechanism:
        mechanism = trained(noise_multiplier).mechanism()
        if score is None or apart:
            return mechanism
        return Composed((mechanism, score), mechanism.adjacency)

    noise = privacy.noise_multiplier
    if noise is None:
        noise = calibrate_trial(_target(privacy, shape), count, on_training_records)
    plan = TuningPlan(
        count=count,
        trial=trained(noise),
        training=count.event(on_training_records(noise)),
        held_out=count.event(score) if score is not None and apart else None,
    )
    _refuse_expensive_score(plan, privacy)
    return plan


def charge(
    plan: TuningPlan, path: Path, records: Sequence[_Row], held_out: Sequence[_Row]
) -> Booking:
    """Charge a whole selection in a ledger, before anything of it runs.

    Args:
        plan: The plan.
        path: File of the ledger; made if absent.
        records: The training records, as texts: data sets are compared by them.
        held_out: The records that trials are scored on.

    Returns:
        The booking, to be used as a context; `dpft.fit` takes it for every trial and charges
        nothing further.

    Raises:
        BudgetError: If a budget would be exceeded.
        ConfigurationError: In several processes, each of which would choose for itself.
        LedgerError: If the ledger cannot be read, trusted or written.

    Privacy:
        Nothing is given back, so that a crash leaves all of it charged
        (`test_a_selection_is_charged_as_a_whole_before_it_runs`).
    """
    refuse_several_processes("a choice among trials")
    privacy = plan.trial.privacy
    both = privacy.evaluation is EvaluationStatus.NOISY and plan.held_out is None
    charged = [*records, *held_out] if both else records
    apart = None
    if plan.held_out is not None:
        assert privacy.evaluation_split is not None, "they have a mechanism of their own by a rule"
        apart = Apart(
            mechanism=plan.held_out,
            dataset_id=held_out_name(privacy),
            records=held_out,
            rule=privacy.evaluation_split,
        )
    return book_event(plan.training, privacy.dataset_id, path, records=charged, apart=apart)


def best_of_trials(
    count: TrialCount,
    candidates: Sequence[_Candidate],
    trial: Callable[[_Candidate], Scored[_Released]],
    randbelow: Callable[[int], int] = secrets.randbelow,
) -> Scored[_Released] | None:
    """Run a secret number of trials, each on a candidate drawn at random, and return the best.

    Args:
        count: The distribution of the number of trials.
        candidates: The public list to draw from, with replacement; not empty.
        trial: Trains and scores; every run of it must be independent of all others, and cost at
            most what was charged whatever the candidate.
        randbelow: Uniform integer below its argument; replaced only by tests.

    Returns:
        The best trial, of equal ones the first, or None if the number drawn is zero. A trial that
        fails ends the selection: its error is then the outcome.

    Privacy:
        Costs what `count.event` says of the mechanism of `trial`
        (`test_selecting_the_best_stays_below_the_bound`). The number of trials and everything but
        the best one are forgotten: nothing is printed, logged or written meanwhile
        (`test_trials_say_nothing`). Taking the first of equal trials is as good as any of them,
        since they are independent and alike. Not hidden is the time it takes, which grows with
        the number of trials.

    References:
        Papernot and Steinke 2021 (2110.03620), section 2.
    """
    if not candidates:
        raise ConfigurationError(
            "Expected at least one candidate. There is nothing to choose from. Give the settings "
            "that are to be tried."
        )
    best: Scored[_Released] | None = None
    with silence():
        for _ in range(count.draw(randbelow)):
            found = trial(candidates[randbelow(len(candidates))])
            if best is None or _rank(found) > _rank(best):
                best = found
            del found  # the loser's model is freed before the next one is made
    return best


@contextmanager
def silence() -> Iterator[None]:
    """Let nothing of this process reach its standard streams or any log.

    Privacy:
        How often something is said during a selection would tell the number of trials
        (`test_trials_say_nothing`). An exception that ends it is shown by whoever catches it.
    """
    before = logging.root.manager.disable
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123  # a device
        for descriptor in (1, 2):
            stack.enter_context(_led_to(descriptor, nowhere.fileno()))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        stack.callback(logging.disable, before)
        logging.disable(logging.CRITICAL)
        yield


@contextmanager
def _led_to(descriptor: int, target: int) -> Iterator[None]:
    """Lead a file descriptor elsewhere: libraries in C and kept streams write to it as well."""
    _flush()
    kept = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def _rank(trial: Scored[_Released]) -> float:
    """Return the score; the order of trials must be total, so one that is no number is worst."""
    return -math.inf if math.isnan(trial.score) else trial.score


def _refuse_unfit(privacy: Privacy) -> None:
    problems = []
    if privacy.mode is not PrivacyMode.PRIVATE:
        problems.append(
            f"Expected mode={privacy.mode.value} to be private. A choice among runs without "
            "privacy has no guarantee to state. Set mode=private, or train without tuning."
        )
    if privacy.evaluation in {None, EvaluationStatus.NONE}:
        problems.append(
            "Expected evaluation=public or noisy. The best trial is found by its metric on "
            "held-out records, and nobody said what one costs. Set privacy.evaluation."
        )
    if privacy.accountant is not Accountant.RDP:
        problems.append(
            f"Expected accountant={privacy.accountant.value} to be rdp. No other one bounds the "
            "best of a random number of trials. Set privacy.accountant=rdp."
        )
    if problems:
        raise ConfigurationError(problems)


def _target(privacy: Privacy, shape: PrivacyPlan) -> PrivacyTarget:
    assert privacy.epsilon is not None, "Privacy asks for one of epsilon and noise_multiplier"
    return PrivacyTarget(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        accountant=privacy.accountant,
        adjacency=shape.length.adjacency,
    )


def _refuse_expensive_score(plan: TuningPlan, privacy: Privacy) -> None:
    """Refuse a score that costs held-out records more than was asked for."""
    if plan.held_out is None or privacy.epsilon is None:
        return
    spent = epsilon(plan.held_out, privacy.delta, accountant=Accountant.RDP)
    if spent > privacy.epsilon:
        raise ConfigurationError(
            f"Expected evaluation_epsilon={privacy.evaluation_epsilon} to cost held-out records at "
            f"most epsilon={privacy.epsilon}. The scores of all trials and the choice cost them "
            f"{spent:.4g}. Lower privacy.evaluation_epsilon."
        )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
