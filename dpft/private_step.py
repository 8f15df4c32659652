"""`PrivateStep`: sample, clip, add noise, let the optimiser move.

For users who keep their own loop; `dpft.fit` is built on it. Raw gradients never leave it.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from dpft import adapters
from dpft.accounting import DiscreteGaussian, PoissonGaussian, UserPoissonGaussian
from dpft.charges import Charges
from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine, PerRecordLoss, modes_of
from dpft.engine.refusals import refuse_other_parameters, refuse_unsupported_optimizer
from dpft.errors import BrokenGuaranteeError, LostProcessError
from dpft.forward_randomness import secret_forward
from dpft.frozen_prefix_batches import CachedRecords, PrefixCache
from dpft.inheritance import Inheritance
from dpft.intake import refuse_loaders, users_of
from dpft.logical_gradients import add_ordinary_gradient, clipped_sum
from dpft.noise import noised, refuse_too_many_entries
from dpft.performance import FrozenPrefix, Performance
from dpft.physical_cut import PhysicalCut, Trial
from dpft.preflight import PreflightReport, SyntheticRecords, run_preflight
from dpft.privacy import Privacy, PrivacyPlan
from dpft.processes import joined
from dpft.processes_agreement import refuse_other_records, refuse_other_runs
from dpft.processes_course import Course, add_gradients
from dpft.processes_randomness import shared_out
from dpft.processes_sharding import LockstepEngine, is_sharded, refuse_unfit_sharding
from dpft.randomness import PinnedRandomness, Purpose, SecretRandomness, Stream
from dpft.records import Collate, Row
from dpft.sampling import LogicalBatch, PoissonSampler, Sampler, UserSampler
from dpft.synthetic import synthetic_rows

__all__ = ["PrivateStep", "StepSettings"]


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What a step may be given beyond the guarantee.

    Args:
        performance: How logical batches are cut.
        randomness: For tests only: a pinned source, which marks the run NOT PRIVATE. Unset:
            secret bits, fresh from the operating system for each step object.
        synthetic: Public rows for the preflight; unset: made from the model's configuration.
        charges: Where every step is booked before it is sampled; the first step follows what is
            booked there already. Unset: nothing is written, and a crash forgets the steps. Of
            several processes the lead alone books.
        started: What the model owes before the first step, as `dpft.inheritance.inherited` found
            it; it has to be composed with the run, as `dpft.fit` does. Private source prompts that
            are not part of it are refused.

    Privacy:
        None of them changes epsilon; a pinned source voids the guarantee and is reported.
    """

    performance: Performance = dataclasses.field(default_factory=Performance)
    randomness: PinnedRandomness | None = None
    synthetic: Sequence[Row] | None = None
    charges: Charges | None = None
    started: Inheritance = dataclasses.field(default_factory=Inheritance)


class PrivateStep:
    """One DP-SGD step after another, over a plan fixed in advance.

    theta <- optimiser(theta, (sum_b clip(G_b) + N(0, (noise_multiplier C)^2 I)) / expected_batch)

    In several processes (docs/processes.md) each holds such an object and runs the same loop; the
    first one leads, and its optimiser alone moves.

    Args:
        model: The model; exactly its parameters with `requires_grad` are trained.
        optimizer: A torch optimiser holding exactly these parameters.
        privacy: The guarantee.
        loss: Callable (model, batch) -> losses [B], each of its own record only.
        settings: Performance, and what tests need.

    Raises:
        BrokenGuaranteeError: If optimiser and model disagree on what is trained.
        UnsupportedError: If the model cannot be clipped exactly, or the optimiser would compute,
            scale or clip gradients by itself.

    Privacy:
        One record (one user, where users are sampled whole: G_b is then the mean over the user's
        records) changes the noised sum by at most C = `privacy.clip_norm` before noise of std
        `noise_multiplier` x C on every trainable entry. Released: every iterate. Assumed: Poisson
        sampling by `batches`, the stated neighbouring relation, exact per-record gradients
        (preflight). Tests: `tests/dpft/test_private_step.py`.

    References:
        Abadi et al. 2016 (1607.00133), algorithm 1.

    Example:
        >>> import torch, dpft
        >>> model = torch.nn.Linear(2, 1)
        >>> loss = lambda model, batch: (model(batch["x"]).squeeze(-1) - batch["y"]).square()
        >>> rows = [{"x": [float(i), 1.0], "y": float(i)} for i in range(100)]
        >>> privacy = dpft.Privacy(
        ...     noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=5
        ... )
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> step = dpft.PrivateStep(model, optimizer, privacy, loss)
        >>> collate = lambda rows: {k: torch.tensor([r[k] for r in rows]) for k in rows[0]}
        >>> for batch in step.batches(rows, collate):
        ...     step(batch)
        >>> step.steps_taken
        5
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        privacy: Privacy,
        loss: PerRecordLoss,
        settings: StepSettings | None = None,
    ) -> None:
        """Check that model and optimiser agree; nothing is drawn yet."""
        self._settings = settings or StepSettings()
        adapters.refuse_unfit(model, composed=self._settings.started.sources)
        self._engine = Engine(model, loss)
        self._optimizer = optimizer
        self._processes = joined(model)
        self._randomness = shared_out(
            _source(self._settings.randomness), self._processes.rank, self._processes.count
        )
        self._pending: LogicalBatch | None = None
        self._plan: PrivacyPlan | None = None
        self._privacy = privacy
        self._charges = self._settings.charges if self._processes.is_lead else None
        self._steps_taken = 0 if self._charges is None else self._charges.intended
        self._is_broken = False
        self._cached: CachedRecords | None = None
        self._cut = PhysicalCut(self._settings.performance)
        self._modes: tuple[bool, ...] = ()
        self.preflight: PreflightReport | None = None
        self._check_optimizer()

    @property
    def steps_taken(self) -> int:
        """Steps charged: all that were about to be sampled, also by interrupted processes."""
        return self._steps_taken

    @property
    def is_lead(self) -> bool:
        """Whether this process moves the optimiser; False in all but one of several."""
        return self._processes.is_lead

    @property
    def plan(self) -> PrivacyPlan:
        """The plan, fixed when `batches` is called.

        Raises:
            BrokenGuaranteeError: Before that.
        """
        if self._plan is None:
            raise BrokenGuaranteeError(
                "Expected batches() to be called first. The plan is made from the records' public "
                "number. Loop over step.batches(records, collate)."
            )
        return self._plan

    @property
    def is_private(self) -> bool:
        """Whether noise, clipping and secret randomness are all in force."""
        return self.plan.is_private and not self._randomness.is_pinned

    @property
    def randomness_is_pinned(self) -> bool:
        """Whether sampling and noise can be reproduced, which voids the guarantee."""
        return self._randomness.is_pinned

    @property
    def mechanism(self) -> PoissonGaussian | UserPoissonGaussian | DiscreteGaussian | None:
        """The mechanism of the steps taken so far, None if there were none or without noise."""
        if not self.plan.is_private or self.steps_taken == 0:
            return None
        return self.plan.mechanism(self.steps_taken)

    @property
    def started(self) -> Inheritance:
        """What the model owed before the first step."""
        return self._settings.started

    @property
    def sampler(self) -> str:
        """Name of the sampler, for the report."""
        name = UserSampler.name if self._privacy.samples_users else PoissonSampler.name
        if not self._processes.are_several:
            return name
        return f"{name}; by {self._processes.count} processes, each its own share"

    @property
    def generator(self) -> str:
        """Name of the random generator, for the report."""
        return self._randomness.name

    @property
    def spent_epsilon(self) -> float:
        """Epsilon at the plan's delta after the steps taken so far; inf if not private."""
        return self.plan.epsilon(self.steps_taken) if self.is_private else float("inf")

    def batches(
        self, records: Sequence[Row], collate: Collate, owners: Sequence[str] | None = None
    ) -> Iterator[LogicalBatch]:
        """Fix the plan, run the preflight, and yield the planned number of logical batches.

        Args:
            records: Encoded records.
            collate: Makes a mapping of tensors [B, ...] of a list of records.
            owners: Name of the owner of each record, as `dpft.users.owners_in` returns them; given
                exactly where the unit of privacy is a user.

        Yields:
            Opaque logical batches; give each to the step before asking for the next.

        Raises:
            BrokenGuaranteeError: If the preflight fails, a batch is left unused, or a user has
                more records than the guarantee counts with.
            ConfigurationError: If the plan is not possible, or owners do not fit the unit.
        """
        if self._plan is not None:
            raise BrokenGuaranteeError(
                "Expected batches() to be called once for each PrivateStep. Every further pass "
                "would cost privacy that was not accounted for. Build a new PrivateStep."
            )
        with self._processes.ending():
            self._processes.require_unchanged(self._engine.model)
            refuse_loaders(records)
            users = users_of(self._privacy, records, owners)
            whole = users if self._privacy.samples_users else None
            self._plan = self._privacy.plan(len(records if whole is None else whole))
            refuse_other_runs(self._processes, self._engine.model, self._plan, self.generator)
            refuse_other_records(self._processes, records, owners)
            performance = self._settings.performance
            refuse_unfit_sharding(self._processes, self._engine.model, self._plan, performance)
            records, collate = self._prepared(records, collate)
        self._course = Course(self._processes, self._moving())
        length, randomness = self._plan.length, self._randomness
        if whole is None:
            return self._draw(PoissonSampler(records, collate, length, randomness))
        return self._draw(UserSampler(records, whole, collate, length, randomness))

    def __call__(self, batch: LogicalBatch) -> None:
        """Take one step.

        Args:
            batch: What `batches` yielded last.

        Raises:
            BrokenGuaranteeError: If the batch is not from here, or was used before.
        """
        if batch is not self._pending:
            raise BrokenGuaranteeError(
                f"Expected the batch that step.batches() yielded last, got {batch!r}. Epsilon "
                "holds for the engine's own Poisson samples, each used once. Pass every batch "
                "once, in order."
            )
        self._pending = None
        self._refuse_after_failure()
        with self._final_if_it_fails(batch.step):
            self._take(batch)

    def forgo(self) -> None:
        """Charge every step that is left, and take none of them: the run ends here.

        Raises:
            BrokenGuaranteeError: If a batch is left unused.

        Privacy:
            Where a run stops may depend on all that it released, if the whole plan is charged
            (`test_a_run_that_is_stopped_is_charged_whole`).
        """
        if self._pending is not None:
            raise self._unused(self._pending.step)
        for step in range(self._steps_taken, self.plan.length.steps):
            self._steps_taken = step + 1
            if self._charges is not None:
                self._charges.intend(step)

    def _take(self, batch: LogicalBatch) -> None:
        if self.plan.is_private:
            self._take_privately(batch)
        else:
            self._add_ordinary_gradient(batch)
        if self.is_lead:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _take_privately(self, batch: LogicalBatch) -> None:
        with self._processes.together():
            self._check_optimizer()
            self._check_modes()
            with secret_forward(self._randomness, batch.step):
                total = clipped_sum(self._engine, batch, self.plan, self._cut)
                if isinstance(self._engine, LockstepEngine):
                    self._engine.catch_up()
        self._processes.sum_on_lead(total.raw_sums.values())
        if self.is_lead:
            self._release(total, batch.step)

    def _add_ordinary_gradient(self, batch: LogicalBatch) -> None:
        with self._processes.together():
            self._check_optimizer()
            self._optimizer.zero_grad(set_to_none=True)
            with secret_forward(self._randomness, batch.step):
                add_ordinary_gradient(self._engine, batch, self.plan, self._cut)
        add_gradients(self._processes, self._engine.parameters.values())

    @contextmanager
    def _final_if_it_fails(self, step: int) -> Iterator[None]:
        """Let nothing follow a failed step: that it fails may depend on a record.

        An interruption (Ctrl-C, a signal, the end of another process) ends this object too, but the
        run may be resumed.
        """
        self._is_broken = True
        with self._processes.ending():
            try:
                yield
            except LostProcessError:
                raise
            except Exception:
                if self._charges is not None:
                    self._charges.fail(step)
                raise
        self._is_broken = False

    def _refuse_after_failure(self) -> None:
        if self._is_broken:
            raise BrokenGuaranteeError(
                "Expected no step after one that failed. That a step fails may depend on a "
                "record, and its sample is spent. Start a new run; it is a new release."
            )

    def _check_modes(self) -> None:
        if self.plan.is_private and modes_of(self._engine.model) != self._modes:
            raise BrokenGuaranteeError(
                "Expected every module to stay in the mode (train or eval) of the preflight. "
                "Another mode may couple records, which was not checked. Call model.train() "
                "before batches()."
            )

    def _prepared(self, records: Sequence[Row], collate: Collate) -> tuple[Sequence[Row], Collate]:
        """Run the preflight on the path that the steps will take, and return that path."""
        if self.plan.is_private:
            entries = sum(each.numel() for each in self._engine.parameters.values())
            refuse_too_many_entries(entries, self.plan)
        place = self._settings.performance.frozen_prefix
        if not self.plan.is_private and place is FrozenPrefix.OFF:
            return records, collate
        synthetic = self._synthetic(records[0], collate)
        trial = Trial.of(self._engine, synthetic, self._privacy)
        if place is not FrozenPrefix.OFF:
            prefix = PrefixCache.of(self._engine, synthetic)
            self._cached = prefix.over(records, collate, place)
            records, collate = self._cached.records, self._cached.collate
            synthetic = prefix.over_synthetic(synthetic)
        if self.plan.is_private:
            self.preflight = run_preflight(self._engine, synthetic, self._privacy)
            self._modes = modes_of(self._engine.model)
            if self._processes.are_several and is_sharded(self._engine.model):
                kinds = [synthetic.batch(), *synthetic.singles()]
                self._engine = LockstepEngine(self._engine, self._processes, kinds)
                self._cut.fix()
            else:
                self._cut.settle(trial)
        return records, collate

    def _synthetic(self, template: Row, collate: Collate) -> SyntheticRecords:
        rows = self._settings.synthetic
        if rows is None:
            rows = synthetic_rows(template, getattr(self._engine.model, "config", None))
        return SyntheticRecords(rows, collate)

    def _draw(self, sampler: Sampler) -> Iterator[LogicalBatch]:
        try:
            yield from self._samples(sampler)
        except GeneratorExit:  # whoever loops leaves early
            if not self._processes.have_parted:  # else they were told otherwise
                self._end()
            raise
        except BaseException:
            self._processes.abandon()
            raise
        else:
            self._end()
        finally:
            if self._cached is not None:
                self._cached.kept.close()

    def _samples(self, sampler: Sampler) -> Iterator[LogicalBatch]:
        for step in self._due():
            self._refuse_after_failure()
            self._pending = self._charged(sampler, step)
            yield self._pending
            if self._pending is not None:
                raise self._unused(step)

    def _due(self) -> Iterator[int]:
        """Yield the steps that are left; all but one of several processes hear of them."""
        if not self.is_lead:
            yield from self._course.steps()
            return
        for step in range(self._steps_taken, self.plan.length.steps):
            if self._steps_taken > step:
                return  # the others are forgone
            yield step

    def _end(self) -> None:
        """Let all processes know that no step follows, if this is an end in good order."""
        if self._is_broken or self._pending is not None:
            self._processes.abandon()
            return
        self._course.end(self._steps_taken)
        if not self.is_lead:
            self._steps_taken = self._course.steps_taken

    def _moving(self) -> list[torch.Tensor]:
        """Return what steps move; without privacy, buffers such as running means move as well."""
        buffers = [] if self.plan.is_private else list(self._engine.model.buffers())
        return [*self._engine.parameters.values(), *buffers]

    @staticmethod
    def _unused(step: int) -> BrokenGuaranteeError:
        return BrokenGuaranteeError(
            f"Expected step {step} to be taken before the next batch. A sample that is looked at "
            "and dropped is not accounted for. Call step(batch) in the loop."
        )

    def _charged(self, sampler: Sampler, step: int) -> LogicalBatch:
        """Charge a step, and only then draw its sample."""
        self._steps_taken = step + 1
        if self._charges is not None:
            self._charges.intend(step)
        with self._final_if_it_fails(step):
            if self.is_lead:
                self._course.begin(step)
            with self._processes.telling():
                return sampler.draw(step)

    def _release(self, total: ClippedSum, step: int) -> None:
        """Add noise to every trainable entry and hand the mean to the optimiser."""
        stream: Stream = self._randomness.stream(Purpose.NOISE, step)
        divisor = self.plan.length.expected_batch_size
        for name, parameter in self._engine.parameters.items():
            released = noised(total.raw_sums[name], self.plan, stream)
            parameter.grad = (released / divisor).to(parameter)

    def _check_optimizer(self) -> None:
        refuse_unsupported_optimizer(self._optimizer)
        refuse_other_parameters(self._optimizer, self._engine.parameters)


def _source(pinned: object) -> SecretRandomness:
    """Return a pinned source as it is, else a fresh secret one that nobody else holds.

    Raises:
        BrokenGuaranteeError: If a secret source is handed in: two runs would share its noise.
    """
    if pinned is None:
        return SecretRandomness()
    if not isinstance(pinned, PinnedRandomness):
        raise BrokenGuaranteeError(
            f"Expected randomness={pinned!r} to be unset or pinned for a test. A secret source "
            "used by two runs repeats their noise. Leave it unset."
        )
    return pinned
