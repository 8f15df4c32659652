"""`dpft.fit`: private fine-tuning from records to a published adapter, in one call."""

import dataclasses
import math
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dpft import adapters
from dpft.accounting import Certificate, RunRecord
from dpft.accounting.inputs import Input
from dpft.accounting.run_record import LedgerReference
from dpft.artefacts import run_record, save_artefacts
from dpft.booked_charges import BookedCharges
from dpft.booking import Booking, book_beside
from dpft.charges import ChargesFile, Origin, RunCharges, RunHistory
from dpft.continuity import Continuity, Iterate
from dpft.declarations import declared_inputs
from dpft.engine.attachment import PerRecordLoss
from dpft.errors import ConfigurationError
from dpft.fingerprint import fingerprint
from dpft.held_out import metric_record
from dpft.inheritance import Inheritance, inherited, mark_trained, mark_training
from dpft.intake import taken_in
from dpft.ledger_place import ledger_place
from dpft.optim import Optim
from dpft.optimisation import Optimisation
from dpft.performance import Performance
from dpft.preflight import PreflightReport
from dpft.privacy import Privacy, PrivacyPlan
from dpft.private_step import PrivateStep, StepSettings
from dpft.progress import EpsilonCourse, Progress
from dpft.randomness import SecretRandomness
from dpft.records import EncodingSettings, Row, collate, encode
from dpft.report import ReportFacts
from dpft.run_folder import RunFolder
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
        notes: Public sentences on the data, for the report.
        declared_public: Public sentences on what was read off the records and is covered by no
            guarantee; the certificate holds them.
        declared: What else the run uses that may have seen private records, such as class weights
            in the loss or a vocabulary of other origin than the base model's: public, or unknown,
            which makes epsilon infinite.

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
    notes: tuple[str, ...] = ()
    declared_public: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a run leaves behind.

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
        folder: The run folder, None if nothing was written.

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
    intake = taken_in(records, privacy, chosen.encoding.user_field)
    plan = privacy.plan(intake.count)
    declared = declared_inputs(model, tokenizer, chosen.declared)
    started = inherited(model, chosen.started_from).and_declared(declared)
    rows = _encoded(intake.rows, tokenizer, chosen.encoding)
    folder = _folder(out, resume=chosen.resume)
    with ExitStack() as stack:
        booking = chosen.booking
        if booking is None:
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
        loop = _Loop(trained, plan, loss, optim or Optim(), folder)
        loop.hold(chosen, booking, stack)
        if booking is not None:
            resumed = intake.charged if chosen.booking is None and not booking.is_new else None
            booking.refuse_another(plan, resumed, secret=chosen.step.randomness is None)
        step = loop.step(chosen.step)
        rate = loop.run(step, rows, intake.owners, _padding(tokenizer, trained), on_step)
        if booking is not None:
            booking.settle()
        reference = None if booking is None else booking.reference
        result = FitResult(
            model=trained.eval(),
            plan=step.plan,
            certificate=_certificate(step, loop.run_id, reference, chosen.declared_public),
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
    return result


class _Loop:
    """The steps of one run."""

    def __init__(
        self,
        model: nn.Module,
        plan: PrivacyPlan,
        loss: PerRecordLoss,
        optim: Optim,
        folder: RunFolder | None,
    ) -> None:
        self._name = secrets.token_hex(16)
        self._model = model
        self._plan = plan
        self._loss = loss
        self._optim = optim
        self._folder = folder
        self._optimisation = Optimisation(model, optim, plan)
        self._continuity: Continuity | None = None
        self._charges: RunCharges | None = None
        self._config_yaml: str | None = None

    @property
    def run_id(self) -> str:
        """Random name of the run in its certificate."""
        return self._name if self._charges is None else self._charges.names[-1]

    @property
    def history(self) -> RunHistory:
        if self._continuity is not None:
            return self._continuity.history
        return RunHistory(1, self._plan.length.steps, self._plan.length.steps)

    def hold(self, chosen: FitOptions, booking: Booking | None, stack: ExitStack) -> None:
        """Keep charges and checkpoints where there is a place, until the stack unwinds."""
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

    def _file(self, chosen: FitOptions, generator: str, origin: Origin | None) -> ChargesFile:
        assert self._folder is not None, "asked for with a folder alone"
        found = fingerprint(self._model, self._plan, self._optim, generator=generator)
        found |= chosen.step.started.fingerprint
        return ChargesFile(self._folder.charges, found, self._plan.length.steps, origin)

    def step(self, settings: StepSettings) -> PrivateStep:
        if self._charges is not None:
            settings = dataclasses.replace(settings, charges=self._charges)
        optimizer = self._optimisation.optimizer
        return PrivateStep(self._model, optimizer, self._plan.privacy, self._loss, settings)

    def run(
        self,
        step: PrivateStep,
        rows: Sequence[Row],
        owners: Sequence[str] | None,
        pad_token_id: int,
        on_step: Callable[[Progress], None] | None,
    ) -> float:
        """Take every step that is left and return the records a second, from public numbers."""
        self._model.train()
        course = EpsilonCourse(self._plan, private=not step.randomness_is_pinned)
        device = next(self._model.parameters()).device
        batches = step.batches(rows, partial(_on_device, pad_token_id, device), owners)
        self._begin()
        first, started = step.steps_taken, time.monotonic()
        for batch in batches:
            step(batch)
            self._optimisation.advance()
            if self._continuity is not None:
                self._continuity.after_step()
            if on_step is not None:
                on_step(course.after(step.steps_taken))
        self._optimisation.finish()
        return self._records_per_second(step.steps_taken - first, time.monotonic() - started)

    def _begin(self) -> None:
        """Say what the run is, before its first step is charged."""
        folder = self._folder
        if folder is not None and self._config_yaml is not None and not folder.config.exists():
            folder.write_config(self._config_yaml)
        # before an iterate is restored or made: one that crashes has released it too
        mark_training(self._model, self._name)
        if self._continuity is not None:
            self._continuity.begin()
        elif self._charges is not None:
            self._charges.attach()
        if self._charges is not None:
            mark_training(self._model, self.run_id)  # by the name it was charged under

    def _records_per_second(self, steps: int, seconds: float) -> float:
        return self._plan.length.expected_batch_size * steps / seconds if steps else math.nan


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
    if has_place and chosen.step.charges is not None:
        problems.append(
            "Expected step.charges to be unset with out or a ledger. The steps are charged there. "
            "Leave one of them out."
        )
    if problems:
        raise ConfigurationError(problems)


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


def _on_device(
    pad_token_id: int, device: torch.device, rows: Sequence[Row]
) -> dict[str, torch.Tensor]:
    """Collate rows where the model lies."""
    return {name: value.to(device) for name, value in collate(rows, pad_token_id).items()}


def _padding(tokenizer: Any, model: nn.Module) -> int:
    """Return the padding token: the tokenizer's, else the model's, else 0 (it is masked)."""
    for source in (tokenizer, getattr(model, "config", None)):
        token = getattr(source, "pad_token_id", None)
        if token is not None:
            return int(token)
    return 0


def _with_adapter(
    model: nn.Module,
    adapter: "PeftConfig | str | None",
    chosen: FitOptions,
    started: Inheritance,
) -> tuple[nn.Module, Inheritance]:
    """Return the model with its adapter, and what both hold already of private records."""
    built = model if adapter is None else _built(model, adapter, chosen.seed)
    started = started.and_sources_of(built)
    adapters.refuse_unfit(built, composed=started.sources)
    if not chosen.train_head:
        _freeze_saved_modules(built)
    return built, started


def _freeze_saved_modules(model: nn.Module) -> None:
    saved = [p for name, p in model.named_parameters() if ".modules_to_save." in name]
    if not saved:
        raise ConfigurationError(
            "Expected train_head=False with an adapter that saves a head beside itself. Nothing "
            "was found to freeze. Leave it out, or freeze the head by requires_grad."
        )
    for parameter in saved:
        parameter.requires_grad = False


def _built(model: nn.Module, adapter: "PeftConfig | str", seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(adapter, str):
            built: nn.Module = adapters.build(adapter, model)  # type: ignore[arg-type]  # transformers'
        else:
            built = adapters.add(model, adapter)  # type: ignore[arg-type]  # transformers'
    return built


def _certificate(
    step: PrivateStep, run_id: str, ledger: LedgerReference | None, public: tuple[str, ...]
) -> Certificate:
    """Return the run, what it started from, and the noisy metric that may follow it."""
    run = run_record(step, run_id, ledger=ledger)
    run = dataclasses.replace(run, excluded=(*run.excluded, *public))
    certificate = step.started.certificate_with(run)
    metric = metric_record(step.plan, run_id, ledger)
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
