"""Everything that can be refused before a model is loaded: settings, files, records, the plan.

No torch in here.
"""

import dataclasses
from contextlib import ExitStack
from pathlib import Path

from dpft.booking import Booking, book, book_with
from dpft.charges import noted_steps, origin_of
from dpft.errors import ConfigurationError
from dpft.held_out import held_out_name
from dpft.intake import Intake, taken_in
from dpft.ledger_place import ledger_place
from dpft.privacy import EvaluationStatus, Privacy, PrivacyPlan
from dpft.recipes.base_models import chosen_base_model
from dpft.recipes.config.schema import TrainSettings
from dpft.recipes.copies import refuse_undeclared_copy
from dpft.recipes.full_fine_tuning import full_fine_tuning_problems, refuse_quantised_base
from dpft.recipes.held_out_records import refuse_too_few
from dpft.recipes.infilling.fitness import family_problems, refuse_unfit_words
from dpft.recipes.large_models import large_model_problems
from dpft.recipes.lengths import refuse_long_texts
from dpft.recipes.positions import refuse_missing_positions
from dpft.recipes.reachability import refuse_unreachable
from dpft.recipes.tasks import Row, Split, Task, build_task
from dpft.recipes.tasks.traits import TaskKind, Traits, traits_of
from dpft.recipes.writing_models import refuse_encoder
from dpft.reservations import Beside
from dpft.run_folder import RunFolder
from dpft.tracking import tracker_problems

__all__ = ["Prepared", "book_run", "prepare", "prepare_evaluation", "refuse_long"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run whose settings and records were found sound.

    Args:
        settings: What was asked for.
        task: The task.
        base_model: Name of the base model.
        privacy: The guarantee asked for, its evaluation decided.
        rows: Training records, no more of a user than are used.
        held_out: Records of the validation split; empty without metrics.

    Privacy:
        Holds raw records.
    """

    settings: TrainSettings
    task: Task
    base_model: str
    privacy: Privacy
    rows: list[Row]
    held_out: list[Row]

    @property
    def traits(self) -> Traits:
        """What the task says of itself."""
        return traits_of(self.task)

    @property
    def intake(self) -> Intake:
        """The training records with their owners, their number, and what a ledger digests."""
        return taken_in(self.rows, self.privacy, self.traits.owner_field)

    def with_rows(self, rows: list[Row]) -> "Prepared":
        """Return this with training records, those left out that a user has too many of."""
        intake = taken_in(rows, self.privacy, self.traits.owner_field)
        return dataclasses.replace(self, rows=[dict(row) for row in intake.rows])


def prepare(settings: TrainSettings) -> Prepared:
    """Check settings and files, then read and check the records, then fix the plan.

    Args:
        settings: What was asked for.

    Returns:
        The prepared run.

    Raises:
        ConfigurationError: If anything is wrong; problems that can be found together are raised
            together.

    Privacy:
        Reads raw records; nothing is released. Without `privacy.evaluation` the task decides what
        a metric costs, and own files get none (`tests/recipes/test_preparation.py`).
    """
    prepared = _read(settings)
    rows = prepared.task.load(Split.TRAIN)
    prepared = prepared.with_rows(rows)
    # refuses what does not fit together before a tokenizer is loaded; the noise is remembered
    prepared.privacy.plan(prepared.intake.count)
    _refuse_unfit(prepared)
    refuse_long(prepared, rows, Split.TRAIN)
    return prepared


def book_run(prepared: Prepared, folder: Path) -> Booking:
    """Reserve a run in its ledger, or find the reservation of the one that is resumed.

    Args:
        prepared: The prepared run.
        folder: The run folder; it may be absent.

    Returns:
        The booking, to be used as a context.

    Raises:
        BudgetError: If a budget would be exceeded; the message says what would fit.
        LedgerError: If the ledger cannot be used, or a run is resumed that is settled in it.
        BrokenGuaranteeError: If a run is resumed with other records, or in a folder that was put
            back.

    Privacy:
        Before any model is loaded; nothing is sampled (`tests/end_to_end/test_ledger.py`). A noisy
        metric is charged as well (`test_a_noisy_metric_is_charged_before_training`), once more if
        the process that is resumed may have drawn it.
    """
    place = ledger_place(prepared.privacy, folder)
    assert place is not None, "a run folder is given"
    resumed = prepared.settings.run.resume is not None
    charges = RunFolder(folder).charges
    origin = origin_of(charges) if resumed else None
    intake = prepared.intake
    plan = prepared.privacy.plan(intake.count)
    with ExitStack() as stack:
        metric = _metric(prepared, plan)
        if origin is None and metric is not None:  # both, or neither
            booking = stack.enter_context(book_with(plan, intake.charged, place, metric))
        else:
            booking = stack.enter_context(book(plan, intake.charged, place, origin=origin))
        booking.refuse_another(plan, intake.charged if origin else None)
        if origin is not None:
            booking.refuse_ended(noted_steps(charges))
            lease = booking.lease
            if metric is not None and lease.intended == lease.steps:  # it may have been drawn
                booking.charge_release(metric)
        stack.pop_all()
    return booking


def _metric(prepared: Prepared, plan: PrivacyPlan) -> Beside | None:
    """Return what a noisy metric releases, None if there is none."""
    mechanism = prepared.privacy.metric(plan.length.adjacency)
    if mechanism is None:
        return None
    return Beside(
        mechanism=mechanism,
        dataset_id=held_out_name(prepared.privacy),
        records=prepared.held_out,
        disjoint_rule=prepared.privacy.evaluation_split,
    )


def prepare_evaluation(settings: TrainSettings) -> Prepared:
    """Check settings and files, and read the held-out records alone.

    Args:
        settings: What was asked for.

    Returns:
        The prepared run, without training records.

    Raises:
        ConfigurationError: If anything is wrong.

    Privacy:
        Reads raw held-out records, if a metric of theirs was declared; nothing is released.
    """
    prepared = _read(settings)
    _refuse_unfit(prepared)
    return prepared


def refuse_long(prepared: Prepared, rows: list[Row], split: Split) -> None:
    """Raise if a text of a split would be cut without a word.

    Args:
        prepared: Task, base model and architecture.
        rows: All records of the split, in the order of their file.
        split: Which split they are.

    Raises:
        ConfigurationError: If there are such texts.

    Privacy:
        Reads raw records; messages name rows, never content (`tests/recipes/test_lengths.py`).
    """
    refuse_long_texts(
        rows, prepared.task, prepared.base_model, prepared.settings.architecture, split
    )


def _read(settings: TrainSettings) -> Prepared:
    task = build_task(settings.task)
    base_model = _checked(settings, task)
    refuse_undeclared_copy(settings, task)
    privacy = _decided(settings.privacy, task)
    _refuse_public_training_file(settings, privacy)
    with_metrics = privacy.evaluation is not EvaluationStatus.NONE
    held_out = task.load(Split.VALIDATION) if with_metrics else []
    if with_metrics:
        refuse_too_few(held_out, task)
    return Prepared(settings, task, base_model, privacy, [], held_out)


def _refuse_unfit(prepared: Prepared) -> None:
    """Raise if the base model cannot take texts or held-out records; its own files are read."""
    settings, task, base_model = prepared.settings, prepared.task, prepared.base_model
    refuse_unreachable(base_model)
    refuse_encoder(base_model, task)
    refuse_missing_positions(
        base_model,
        settings.architecture.max_length,
        soft=getattr(settings.adapter, "num_virtual_tokens", 0),
        written=settings.generation.max_new_tokens if _writes(settings, task) else 0,
    )
    refuse_quantised_base(settings, base_model)
    refuse_unfit_words(settings.architecture, task, base_model)
    refuse_long(prepared, prepared.held_out, Split.VALIDATION)


def _decided(privacy: Privacy, task: Task) -> Privacy:
    """Return the guarantee with what the task decides: the unit, and what a metric costs."""
    traits = traits_of(task)
    asked = {"unit": privacy.unit, "records_per_user": privacy.records_per_user}
    decided = {"unit": traits.unit, "records_per_user": traits.records_per_user}
    problems = [
        f"Expected privacy.{name}={getattr(value, 'value', value)} to be what the task says, "
        f"{getattr(decided[name], 'value', decided[name])}. Whose the records are is known to the "
        f"task alone. Unset privacy.{name}, and set task.group_by, or task.user_column and "
        "task.max_records_per_user."
        for name, value in asked.items()
        if value is not None and value != decided[name]
    ]
    if privacy.evaluation is EvaluationStatus.NOISY and traits.kind is not TaskKind.CLASSIFICATION:
        problems.append(
            f"Expected privacy.evaluation=noisy with labels, not with a {traits.kind.value}. Its "
            "noise is that of a count of records predicted rightly. Set privacy.evaluation=none."
        )
    if problems:
        raise ConfigurationError(problems)
    return dataclasses.replace(
        privacy,
        evaluation=privacy.evaluation or task.evaluation or EvaluationStatus.NONE,
        unit=traits.unit,
        records_per_user=traits.records_per_user,
    )


def _refuse_public_training_file(settings: TrainSettings, privacy: Privacy) -> None:
    """Raise if a file would be private in training and public in evaluation."""
    train, validation = (getattr(settings.task, name, None) for name in ("train", "validation"))
    if privacy.evaluation is not EvaluationStatus.PUBLIC or None in (train, validation):
        return
    if Path(str(train)).samefile(str(validation)):
        raise ConfigurationError(
            f"Expected task.validation={validation} to be another file than task.train with "
            "privacy.evaluation=public. Figures and texts of the training records would be "
            "published without noise. Name a file of public records, or set "
            "privacy.evaluation=none."
        )


def _checked(settings: TrainSettings, task: Task) -> str:
    problems = task.problems()
    base_model = ""
    try:
        base_model = chosen_base_model(settings.model, task)
    except ConfigurationError as error:
        problems.extend(error.messages)
    problems.extend(tracker_problems(settings.run.trackers))
    problems.extend(family_problems(settings.architecture, task))
    problems.extend(full_fine_tuning_problems(settings))
    problems.extend(large_model_problems(settings))
    if problems:
        raise ConfigurationError(problems)
    return base_model


def _writes(settings: TrainSettings, task: Task) -> bool:
    status = settings.privacy.evaluation or task.evaluation
    return traits_of(task).kind is TaskKind.TEXT and status is EvaluationStatus.PUBLIC
