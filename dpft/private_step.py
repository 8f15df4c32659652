"""`PrivateStep`: sample, clip, add noise, let the optimiser move.

For users who keep their own loop; `dpft.fit` is built on it. Raw gradients never leave it.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from dpft import adapters
from dpft.accounting import DiscreteGaussian, PoissonGaussian, Unit, UserPoissonGaussian
from dpft.charges import Charges
from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine, PerRecordLoss, modes_of
from dpft.engine.refusals import refuse_other_parameters, refuse_unsupported_optimizer
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.forward_randomness import secret_forward
from dpft.inheritance import Inheritance
from dpft.intake import refuse_loaders
from dpft.logical_gradients import add_ordinary_gradient, clipped_sum
from dpft.noise import noised, refuse_too_many_entries
from dpft.performance import Performance
from dpft.preflight import PreflightReport, SyntheticRecords, run_preflight
from dpft.privacy import Privacy, PrivacyPlan
from dpft.randomness import PinnedRandomness, Purpose, SecretRandomness, Stream
from dpft.records import Collate, Row
from dpft.sampling import LogicalBatch, PoissonSampler, Sampler, UserSampler
from dpft.synthetic import synthetic_rows
from dpft.users import Users, owners_in

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
            booked there already. Unset: nothing is written, and a crash forgets the steps.
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
        self._randomness = _source(self._settings.randomness)
        self._pending: LogicalBatch | None = None
        self._plan: PrivacyPlan | None = None
        self._privacy = privacy
        self._charges = self._settings.charges
        self._steps_taken = 0 if self._charges is None else self._charges.intended
        self._is_broken = False
        self._modes: tuple[bool, ...] = ()
        self.preflight: PreflightReport | None = None
        self._check_optimizer()

    @property
    def steps_taken(self) -> int:
        """Steps charged: all that were about to be sampled, also by interrupted processes."""
        return self._steps_taken

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
        return UserSampler.name if self._privacy.samples_users else PoissonSampler.name

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
        refuse_loaders(records)
        users = _users(self._privacy, records, owners)
        whole = users if self._privacy.samples_users else None
        self._plan = self._privacy.plan(len(records if whole is None else whole))
        if self._plan.is_private:
            entries = sum(each.numel() for each in self._engine.parameters.values())
            refuse_too_many_entries(entries, self._plan)
            self._fly(records, collate)
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
        self._check_optimizer()
        self._check_modes()
        performance = self._settings.performance
        if self.plan.is_private:
            with secret_forward(self._randomness, batch.step):
                total = clipped_sum(self._engine, batch, self.plan, performance)
            self._release(total, batch.step)
        else:
            self._optimizer.zero_grad(set_to_none=True)
            with secret_forward(self._randomness, batch.step):
                add_ordinary_gradient(self._engine, batch, self.plan, performance)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def _final_if_it_fails(self, step: int) -> Iterator[None]:
        """Let nothing follow a failed step: that it fails may depend on a record.

        An interruption (Ctrl-C, a signal) ends this object too, but the run may be resumed.
        """
        self._is_broken = True
        try:
            yield
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

    def _fly(self, records: Sequence[Row], collate: Collate) -> None:
        config = getattr(self._engine.model, "config", None)
        rows = self._settings.synthetic
        if rows is None:
            rows = synthetic_rows(records[0], config)
        synthetic = SyntheticRecords(rows, collate)
        self.preflight = run_preflight(self._engine, synthetic, self._privacy)
        self._modes = modes_of(self._engine.model)

    def _draw(self, sampler: Sampler) -> Iterator[LogicalBatch]:
        for step in range(self._steps_taken, self.plan.length.steps):
            if self._steps_taken > step:
                return  # the others are forgone
            self._refuse_after_failure()
            self._pending = self._charged(sampler, step)
            yield self._pending
            if self._pending is not None:
                raise self._unused(step)

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


def _users(privacy: Privacy, records: Sequence[Row], owners: Sequence[str] | None) -> Users | None:
    """Return whose the records are, None where the unit is a record.

    Raises:
        ConfigurationError: If owners are missing, or given where nobody asks for them.
        BrokenGuaranteeError: If a user has more records than the guarantee counts with.
    """
    if (owners is None) != (privacy.covers is Unit.RECORD):
        raise ConfigurationError(
            f"Expected owners of the records exactly with unit=user, got unit="
            f"{privacy.covers.value} {'without' if owners is None else 'with'} them. A guarantee "
            "for users needs to know whose the records are. Name their owners "
            "(EncodingSettings.user_field, task.group_by), or set unit=record."
        )
    if owners is None:
        return None
    names = owners_in([{"owner": owner} for owner in owners], "owner")
    if len(names) != len(records):
        raise ConfigurationError(
            "Expected one owner for each record. A record that belongs to nobody is covered by no "
            "guarantee. Give as many owners as records."
        )
    users = Users(names)
    most = privacy.records_per_user
    if most is not None and any(len(users.records_of(each)) > most for each in range(len(users))):
        raise BrokenGuaranteeError(
            f"Expected no user to have more than records_per_user={most} records. The noise covers "
            "so many of them. Keep the positions that dpft.users.first_of_each returns."
        )
    return users


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
