"""`dpft.fit`: private fine-tuning from records to a published adapter, in one call."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dpft import adapters
from dpft.accounting import Certificate, RunRecord
from dpft.accounting.inputs import Input
from dpft.accounting.run_record import LedgerReference
from dpft.adapting import adapted, padding_of
from dpft.artefacts import run_record, save_artefacts
from dpft.booking import Booking, book_beside
from dpft.charges import RunHistory
from dpft.declarations import declared_inputs
from dpft.engine.attachment import PerRecordLoss
from dpft.errors import ConfigurationError
from dpft.held_out import metric_record
from dpft.inheritance import Inheritance, inherited, mark_trained
from dpft.intake import taken_in
from dpft.ledger_place import ledger_place
from dpft.loop import Loop, LoopParts, OnStep, Supply
from dpft.optim import Optim
from dpft.optimisation import Optimisation
from dpft.performance import Performance
from dpft.preflight import PreflightReport
from dpft.privacy import Privacy, PrivacyPlan
from dpft.private_step import PrivateStep, StepSettings
from dpft.processes import ending_together, joined
from dpft.processes_result import result_of_lead
from dpft.progress import Progress
from dpft.records import Collate, EncodingSettings, Row, collate, encode
from dpft.report import ReportFacts
from dpft.run_folder import RunFolder
from dpft.tracking import TrackerName, Tracking
from dpft.users import without_owner

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["FitOptions", "FitResult", "fit"]


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """What `fit` may be given beyond its concepts.

    Args:
        encoding: Columns and length for the tokenizer.
        seed: Public seed of the adapter's initialisation. It never touches sampling or noise.
        train_head: Whether what the adapter saves beside itself (peft's `modules_to_save`, as the
            head is) is trained too; a frozen head leaves the whole clip norm to the adapter.
        step: For tests and research: pinned randomness (NOT PRIVATE), own synthetic records.
        resume: Continue the unfinished run in `out`, if there is one; needs the same arguments.
        checkpoint_every: Steps between two checkpoints, >= 1; unset: about ten in a run.
        config_yaml: Content of the run folder's config.yaml, which says what the run is.
        booking: The run's reservation in a ledger, if it was made before; unset: with `out`,
            `privacy.ledger` or `$DPFT_LEDGER` the run is reserved here. One of `book_event` covers
            the run as a part of what it charged; which runs those are is the caller's to know.
        started_from: Folders of earlier runs or adapters that the model holds where nothing in it
            tells of them, as an adapter that was loaded for further training. Their certificates
            are composed with that of the run.
        trackers: Names of trackers to report to, as "tensorboard", or a `dpft.tracking.Tracking`
            whose context is the caller's, who may then send released metrics too; needs `out`.
        notes: Public sentences on the data, for the report.
        declared_public: Public sentences on what was read off the records and is covered by no
            guarantee; the certificate holds them.
        declared: What else the run uses that may have seen private records, such as class weights
            in the loss or a vocabulary of other origin than the base model's: public, or unknown,
            which makes epsilon infinite.
        parts: For bridges to other trainers: what stands in the place of parts of `fit`.

    Privacy:
        None of them changes epsilon; pinned randomness voids the guarantee and is reported.
        Resuming draws fresh keys and charges every step that was about to be sampled
        (`tests/end_to_end/test_interruption.py`).
    """

    encoding: EncodingSettings = dataclasses.field(default_factory=EncodingSettings)
    seed: int = 0
    train_head: bool = True
    step: StepSettings = dataclasses.field(default_factory=StepSettings)
    resume: bool = False
    checkpoint_every: int | None = None
    config_yaml: str | None = None
    booking: Booking | None = None
    started_from: tuple[Path | str, ...] = ()
    declared: tuple[Input, ...] = ()
    trackers: Tracking | tuple[TrackerName | str, ...] = ()
    notes: tuple[str, ...] = ()
    declared_public: tuple[str, ...] = ()
    parts: LoopParts = dataclasses.field(default_factory=LoopParts)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a run leaves behind; in several processes the same in all, but for the folder.

    Args:
        model: The trained model, in eval mode.
        plan: The plan that ran.
        certificate: The mechanisms that touched the data, those of earlier runs that this one
            started from included.
        run_id: Name of this run in the certificate.
        preflight: The preflight's verdict, None if the run is not private.
        examples_per_second: Public expected batch size x steps / wall time, of this process; NaN
            if all steps were taken before.
        history: Starts of the process, steps charged, updates kept.
        folder: The run folder, None if nothing was written, or not by this process.

    Privacy:
        Post-processing of noised updates, and public numbers.
    """

    model: nn.Module
    plan: PrivacyPlan
    certificate: Certificate
    run_id: str
    preflight: PreflightReport | None
    examples_per_second: float
    history: RunHistory
    folder: RunFolder | None

    @property
    def run(self) -> RunRecord:
        """This run's entry in the certificate."""
        return next(run for run in self.certificate.runs if run.run_id == self.run_id)

    @property
    def epsilon(self) -> float:
        """Epsilon of the whole certificate, at `delta`; inf if the run is not private."""
        return self.certificate.epsilon(self.delta)

    @property
    def delta(self) -> float:
        """Delta of the plan."""
        return self.plan.privacy.delta

    @property
    def adapter_dir(self) -> Path | None:
        """Folder that plain peft loads, None if nothing was written."""
        return None if self.folder is None else self.folder.adapter

    @property
    def report(self) -> Path | None:
        """The report, None if nothing was written."""
        return None if self.folder is None else self.folder.report


@ending_together
def fit(  # noqa: PLR0913 - the one call users make: every argument is a concept of its own
    model: nn.Module,
    records: Sequence[Row],
    *,
    loss: PerRecordLoss,
    privacy: Privacy,
    tokenizer: Any = None,
    adapter: "PeftConfig | str | None" = None,
    optim: Optim | None = None,
    performance: Performance | None = None,
    out: Path | str | None = None,
    on_step: Callable[[Progress], None] | None = None,
    options: FitOptions | None = None,
) -> FitResult:
    """Fine-tune a model privately.

    Several processes that call it with the same arguments train one model together: the first one
    writes `out`, is observed and calls `on_step` (docs/processes.md).

    Args:
        model: A transformers model; with `adapter` it is changed in place as by peft.
        records: Training records: texts and labels, which `tokenizer` encodes, or rows that are
            encoded already. Each is a unit of privacy, unless `privacy.unit` is a user:
            `options.encoding.user_field` then names the column of their owners.
        loss: Callable (model, batch) -> losses [B], each of its own record only (`dpft.losses`).
        privacy: The guarantee asked for.
        tokenizer: Encodes texts and gives the padding token; needed unless rows are encoded.
        adapter: A peft configuration, or a name known to `dpft.adapters`; unset: train what
            requires a gradient.
        optim: Optimiser and schedule.
        performance: How logical batches are cut; cannot change the result's guarantee.
        out: Run folder to write; absent or empty, or that of the run to resume.
        on_step: Called after every step.
        options: Encoding, initialisation, resuming, and what tests need.

    Returns:
        The trained model, its certificate, and where the artefacts lie.

    Raises:
        ConfigurationError: If a setting is wrong; found before the first private record is used.
        BrokenGuaranteeError: If the preflight fails, or what the model already holds of private
            records cannot be composed with the run.
        UnsupportedError: If the model cannot be clipped exactly.

    Privacy:
        One record (or user, see `Privacy.unit`) changes each noised sum by at most
        `privacy.clip_norm`. Released: every
        iterate, so also the final adapter, and public numbers. Assumed: the stated neighbouring
        relation, Poisson sampling as carried out here, exact per-record gradients (preflight).
        Earlier runs that the model started from are found and counted (`dpft.inheritance`).
        Tests: `tests/dpft/test_training.py`, `tests/dpft/test_private_step.py`.

    References:
        Abadi et al. 2016 (1607.00133), algorithm 1.
    """
    chosen = options or FitOptions()
    _check_options(chosen, out, privacy)
    processes = joined(model)
    if not processes.is_lead:
        chosen, out, on_step = _without_files(chosen), None, None
    intake = taken_in(records, privacy, chosen.encoding.user_field)
    plan = privacy.plan(intake.count)
    declared = declared_inputs(model, tokenizer, chosen.declared)
    started = inherited(model, chosen.started_from).and_declared(declared)
    rows = _encoded(intake.rows, tokenizer, chosen.encoding)
    folder = _folder(out, resume=chosen.resume)
    with ExitStack() as stack:
        tracking = _tracking(chosen, stack)
        booking = chosen.booking
        if booking is None and processes.is_lead:
            charged = intake.charged
            booking = book_beside(plan, charged, folder, secret=chosen.step.randomness is None)
            stack.enter_context(booking or nullcontext())
        public = booking and booking.public_part("the adapter could not be added to the model")
        with public or nullcontext():
            trained, started = _with_adapter(model, adapter, chosen, started)
        mechanism = plan.mechanism() if plan.is_private else None
        started.require_composable(mechanism, plan.privacy.delta)
        settings = dataclasses.replace(
            chosen.step, performance=performance or Performance(), started=started
        )
        chosen = dataclasses.replace(chosen, step=settings)
        loop = Loop(trained, plan, loss, _optimisation(trained, plan, optim, chosen), folder)
        loop.hold(chosen, booking, stack)
        if booking is not None:
            resumed = intake.charged if chosen.booking is None and not booking.is_new else None
            booking.refuse_another(plan, resumed, secret=chosen.step.randomness is None)
        step = loop.step(chosen.step)
        reference = None if booking is None else booking.reference
        certified = partial(_certificate, step, loop, reference, chosen.declared_public)
        supply = Supply(rows, intake.owners, _collate(tokenizer, trained, chosen))
        observer = chosen.parts.observer or (None if on_step is None else OnStep(on_step))
        if folder is not None:
            public = booking and booking.public_part("a tracker could not be started")
            with public or nullcontext():
                tracking.start(folder.path, plan, _known_optim(optim, chosen))
        observer = tracking.followed_by(observer)
        rate = loop.run(step, supply, observer, partial(certified, whole=True))
        if booking is not None:
            booking.settle()
        result = FitResult(
            model=trained.eval(),
            plan=step.plan,
            certificate=certified(),
            run_id=loop.run_id,
            preflight=step.preflight,
            examples_per_second=rate,
            history=loop.history,
            folder=folder,
        )
        mark_trained(trained, result.certificate)
        if folder is not None:
            facts = _facts(result, booking, pinned=step.randomness_is_pinned, notes=chosen.notes)
            save_artefacts(result.model, result.certificate, folder, facts)
        tracking.after_training(result.epsilon, result.delta)
    return result_of_lead(result, processes)


def _check_options(chosen: FitOptions, out: Path | str | None, privacy: Privacy) -> None:
    has_place = ledger_place(privacy, None if out is None else Path(out)) is not None
    problems = []
    if out is None and (chosen.resume or chosen.checkpoint_every is not None):
        problems.append(
            f"Expected out to be given with resume={chosen.resume} and checkpoint_every="
            f"{chosen.checkpoint_every}. Charges and checkpoints lie in the run folder. Give out."
        )
    if chosen.checkpoint_every is not None and chosen.checkpoint_every < 1:
        problems.append(
            f"Expected checkpoint_every={chosen.checkpoint_every} >= 1. It counts steps. Leave it "
            "unset for about ten checkpoints in a run."
        )
    given = chosen.trackers
    tracked = given if isinstance(given, Tracking) else Tracking(given)
    if out is None and tracked.names:
        names = ", ".join(name.value for name in tracked.names)
        problems.append(
            f"Expected out to be given with trackers={names}. What they are told belongs to a run "
            "folder. Give out."
        )
    if has_place and chosen.step.charges is not None:
        problems.append(
            "Expected step.charges to be unset with out or a ledger. The steps are charged there. "
            "Leave one of them out."
        )
    if problems:
        raise ConfigurationError(problems)


def _without_files(chosen: FitOptions) -> FitOptions:
    """Return the options of a process that does not lead: it writes, books and tells nothing."""
    return dataclasses.replace(
        chosen,
        resume=False,
        checkpoint_every=None,
        config_yaml=None,
        booking=None,
        trackers=(),
        parts=dataclasses.replace(chosen.parts, observer=None),
    )


def _tracking(chosen: FitOptions, stack: ExitStack) -> Tracking:
    """Return the caller's trackers as they are, others within the stack."""
    given = chosen.trackers
    return given if isinstance(given, Tracking) else stack.enter_context(Tracking(given))


def _folder(out: Path | str | None, *, resume: bool) -> RunFolder | None:
    if out is None:
        return None
    return RunFolder.reopen(out) if resume else RunFolder.create(out)


def _encoded(
    records: Sequence[Row],
    tokenizer: Any,
    encoding: EncodingSettings,
) -> Sequence[Row]:
    if not len(records):
        raise ConfigurationError(
            "Expected at least one record. There is nothing to train on. Give the records."
        )
    if "input_ids" in records[0]:
        owner = encoding.user_field
        return records if owner is None else without_owner(records, owner)
    if tokenizer is None:
        raise ConfigurationError(
            "Expected tokenizer to be given. The records have no `input_ids`. Pass the model's "
            "tokenizer, or encoded rows."
        )
    return encode(records, tokenizer, encoding)


def _optimisation(
    model: nn.Module, plan: PrivacyPlan, optim: Optim | None, chosen: FitOptions
) -> Optimisation:
    made = chosen.parts.optimisation
    return Optimisation.of(model, optim or Optim(), plan) if made is None else made(model, plan)


def _known_optim(optim: Optim | None, chosen: FitOptions) -> Optim | None:
    """Return settings that tell the learning rate of every step; a bridge's may depend on more."""
    return (optim or Optim()) if chosen.parts.optimisation is None else None


def _collate(tokenizer: Any, model: nn.Module, chosen: FitOptions) -> Collate:
    return chosen.parts.collate or partial(collate, pad_token_id=padding_of(tokenizer, model))


def _with_adapter(
    model: nn.Module,
    adapter: "PeftConfig | str | None",
    chosen: FitOptions,
    started: Inheritance,
) -> tuple[nn.Module, Inheritance]:
    """Return the model with its adapter, and what both hold already of private records."""
    built = adapted(model, adapter, seed=chosen.seed, train_head=chosen.train_head)
    started = started.and_sources_of(built)
    adapters.refuse_unfit(built, composed=started.sources)
    return built, started


def _certificate(
    step: PrivateStep,
    loop: Loop,
    ledger: LedgerReference | None,
    public: tuple[str, ...],
    *,
    whole: bool = False,
) -> Certificate:
    """Return the run, what it started from, and the noisy metric that may follow it.

    As a whole, it claims every planned step, also those that are not charged yet.
    """
    run = run_record(step, loop.run_id, ledger=ledger)
    mechanism = step.plan.mechanism() if whole and step.plan.is_private else run.mechanism
    run = dataclasses.replace(run, mechanism=mechanism, excluded=(*run.excluded, *public))
    certificate = step.started.certificate_with(run)
    metric = metric_record(step.plan, loop.run_id, ledger)
    return certificate if metric is None else certificate.with_release(metric)


def _facts(
    result: FitResult, booking: Booking | None, *, pinned: bool, notes: tuple[str, ...]
) -> ReportFacts:
    return ReportFacts(
        notes=notes,
        budget=None if booking is None else booking.statement,
        plan=result.plan,
        run=result.run,
        certificate=result.certificate,
        epsilon=result.epsilon,
        preflight=result.preflight,
        history=result.history,
        pinned_randomness=pinned,
    )
