"""The steps of one run, with its charges and checkpoints: what `dpft.fit` and bridges share."""

import dataclasses
import math
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from dpft.accounting import Certificate
from dpft.booked_charges import BookedCharges
from dpft.booking import Booking
from dpft.charges import ChargesFile, Origin, RunCharges, RunHistory
from dpft.continuity import Continuity, Iterate
from dpft.engine.attachment import PerRecordLoss
from dpft.fingerprint import fingerprint
from dpft.inheritance import mark_training
from dpft.optimisation import Optimisation
from dpft.privacy import PrivacyPlan
from dpft.private_step import PrivateStep, StepSettings
from dpft.progress import EpsilonCourse, Progress
from dpft.randomness import SecretRandomness
from dpft.records import Collate, Row
from dpft.run_folder import RunFolder

if TYPE_CHECKING:
    from dpft.training import FitOptions

__all__ = ["Loop", "LoopParts", "Observer", "OnStep", "Standing", "Supply"]


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where a run stands when its first step of this process is due.

    Args:
        plan: The plan of the run.
        steps_taken: Steps charged so far, by earlier processes.
        save: Writes a checkpoint of the present iterate; does nothing without a run folder.
        certificate: Returns what any iterate of the run may claim: the cost of the whole plan,
            also if it is published before the end.

    Privacy:
        Public numbers. Which iterate is published, and where a run stops, may then depend on all
        that it released.
    """

    plan: PrivacyPlan
    steps_taken: int
    save: Callable[[], None]
    certificate: Callable[[], Certificate]


class Observer(Protocol):
    """What happens around the steps of a run, such as the callbacks of another trainer.

    Privacy:
        It is handed public numbers, and sees what the run releases: iterates after noise.
    """

    def begin(self, standing: Standing) -> None:
        """Follow the preflight; the next step is the first of this process."""
        ...

    def before_step(self) -> None:
        """Precede a step that is charged already."""
        ...

    def after_step(self, progress: Progress) -> bool:
        """Follow a step, and return whether the run goes on."""
        ...


@dataclasses.dataclass(frozen=True)
class OnStep:
    """An observer that calls a function after every step.

    Args:
        function: What to call.

    Privacy:
        Hands on public numbers.
    """

    function: Callable[[Progress], None]

    def begin(self, standing: Standing) -> None:
        """Do nothing."""

    def before_step(self) -> None:
        """Do nothing."""

    def after_step(self, progress: Progress) -> bool:
        """Call the function; the run goes on."""
        self.function(progress)
        return True


@dataclasses.dataclass(frozen=True)
class LoopParts:
    """What a bridge to another trainer puts in the place of parts of `dpft.fit`.

    Args:
        optimisation: Makes optimiser and schedule for a model and a plan; unset: `Optim` does.
        collate: Makes tensors of encoded rows; unset: lists are padded right.
        observer: What happens around the steps; unset: `on_step` is called.

    Privacy:
        None of them changes epsilon: they post-process noised gradients, or are checked by the
        preflight (`collate`).
    """

    optimisation: Callable[[nn.Module, PrivacyPlan], Optimisation] | None = None
    collate: Collate | None = None
    observer: Observer | None = None


@dataclasses.dataclass(frozen=True)
class Supply:
    """The records of a run, and how they become tensors.

    Args:
        rows: Encoded rows.
        owners: Name of the owner of each, None where the unit is a record.
        collate: Makes tensors of rows, on any device.

    Privacy:
        Raw records.
    """

    rows: Sequence[Row] = dataclasses.field(repr=False)
    owners: Sequence[str] | None = dataclasses.field(repr=False)
    collate: Collate


class Loop:
    """The steps of one run.

    Args:
        model: The model with its adapter.
        plan: The plan.
        loss: Callable (model, batch) -> losses [B], each of its own record only.
        optimisation: Optimiser, schedule and average.
        folder: The run folder, None if nothing is written.

    Privacy:
        Every step is charged before it is sampled (`tests/dpft/test_resume.py`).
    """

    def __init__(
        self,
        model: nn.Module,
        plan: PrivacyPlan,
        loss: PerRecordLoss,
        optimisation: Optimisation,
        folder: RunFolder | None,
    ) -> None:
        """Keep what is needed; nothing moves yet."""
        self._name = secrets.token_hex(16)
        self._model = model
        self._plan = plan
        self._loss = loss
        self._folder = folder
        self._optimisation = optimisation
        self._continuity: Continuity | None = None
        self._charges: RunCharges | None = None
        self._config_yaml: str | None = None
        self._updates = 0  # of this process

    @property
    def run_id(self) -> str:
        """Random name of the run in its certificate."""
        return self._name if self._charges is None else self._charges.names[-1]

    @property
    def history(self) -> RunHistory:
        """Starts of the process, steps charged, updates kept."""
        if self._continuity is not None:
            return self._continuity.history
        return RunHistory(1, self._plan.length.steps, self._updates)

    def hold(self, chosen: "FitOptions", booking: Booking | None, stack: ExitStack) -> None:
        """Keep charges and checkpoints where there is a place, until the stack unwinds.

        Args:
            chosen: Options of the run.
            booking: Its reservation in a ledger, if there is one.
            stack: Closes the file of the charges.

        Privacy:
            Nothing, no data touched.
        """
        if booking is not None and booking.is_event:
            booking = None  # all of it was charged before
        generator = (chosen.step.randomness or SecretRandomness).name
        charges: RunCharges | None = None
        if self._folder is not None:
            origin = None if booking is None else booking.origin
            charges = stack.enter_context(closing(self._file(chosen, generator, origin)))
        if booking is not None:
            charges = BookedCharges(booking, charges, generator)
        self._charges = charges
        if self._folder is None or charges is None:
            return
        iterate = Iterate(self._model, self._optimisation, self._plan.is_private)
        steps, every = self._plan.length.steps, chosen.checkpoint_every
        self._continuity = Continuity(self._folder, charges, iterate, steps, every)
        self._config_yaml = chosen.config_yaml

    def _file(self, chosen: "FitOptions", generator: str, origin: Origin | None) -> ChargesFile:
        assert self._folder is not None, "asked for with a folder alone"
        settings = self._optimisation.settings
        found = fingerprint(self._model, self._plan, settings, generator=generator)
        found |= chosen.step.started.fingerprint
        return ChargesFile(self._folder.charges, found, self._plan.length.steps, origin)

    def step(self, settings: StepSettings) -> PrivateStep:
        """Return what takes the steps, charged where this run is."""
        if self._charges is not None:
            settings = dataclasses.replace(settings, charges=self._charges)
        optimizer = self._optimisation.optimizer
        return PrivateStep(self._model, optimizer, self._plan.privacy, self._loss, settings)

    def run(
        self,
        step: PrivateStep,
        supply: Supply,
        observer: Observer | None,
        certificate: Callable[[], Certificate],
    ) -> float:
        """Take every step that is left and return the records a second, from public numbers.

        Of several processes the first alone is observed, scheduled, averaged and saved.

        Args:
            step: What takes the steps.
            supply: The records.
            observer: What happens around the steps, if anything.
            certificate: What an iterate may claim that is published before the end.

        Privacy:
            A run that its observer stops is charged whole: where it stops may depend on what it
            released (`test_a_run_that_a_callback_stops_is_charged_whole`).
        """
        self._model.train()
        course = EpsilonCourse(self._plan, private=not step.randomness_is_pinned)
        device = next(self._model.parameters()).device
        batches = step.batches(supply.rows, partial(_on, device, supply.collate), supply.owners)
        self._begin()
        started = time.monotonic()
        if observer is not None:
            observer.begin(Standing(self._plan, step.steps_taken, self._save, certificate))
        for batch in batches:
            if observer is not None:
                observer.before_step()
            step(batch)
            if not step.is_lead:
                continue  # all that follows is the first process's
            self._updates += 1
            self._optimisation.advance()
            if self._continuity is not None:
                self._continuity.after_step()
            if observer is not None and not observer.after_step(course.after(step.steps_taken)):
                step.forgo()
        if step.is_lead:
            self._optimisation.finish()
        return self._records_per_second(self._updates, time.monotonic() - started)

    def _begin(self) -> None:
        """Say what the run is, before its first step is charged."""
        # before an iterate is restored or made: one that crashes has released it too
        mark_training(self._model, self._name)
        if self._continuity is not None:
            self._continuity.begin()
        elif self._charges is not None:
            self._charges.attach()
        folder = self._folder  # held by now: of two processes that begin here one is refused
        if folder is not None and self._config_yaml is not None and not folder.config.exists():
            folder.write_config(self._config_yaml)
        if self._charges is not None:
            mark_training(self._model, self.run_id)  # by the name it was charged under

    def _save(self) -> None:
        if self._continuity is not None:
            self._continuity.save()

    def _records_per_second(self, steps: int, seconds: float) -> float:
        if not steps or seconds <= 0:  # no clock is so fine, or it stood still
            return math.nan
        return self._plan.length.expected_batch_size * steps / seconds


def _on(device: torch.device, collate: Collate, rows: Sequence[Row]) -> dict[str, Any]:
    """Collate rows where the model lies."""
    return {name: value.to(device) for name, value in collate(rows).items()}
