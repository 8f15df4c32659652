"""Everything that can be refused before a model is loaded: settings, files, records, the plan.

No torch in here.
"""

import dataclasses
from contextlib import ExitStack
from pathlib import Path

from dpft.booking import Booking, book
from dpft.charges import noted_steps, origin_of
from dpft.errors import ConfigurationError
from dpft.held_out import held_out_name
from dpft.ledger_place import ledger_place
from dpft.privacy import EvaluationStatus, Privacy, PrivacyPlan
from dpft.recipes.base_models import chosen_base_model
from dpft.recipes.config.schema import TrainSettings
from dpft.recipes.tasks import Row, Split, Task, build_task
from dpft.run_folder import RunFolder

__all__ = ["Prepared", "book_run", "prepare", "prepare_evaluation"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run whose settings and records were found sound.

    Args:
        settings: What was asked for.
        task: The task.
        base_model: Name of the base model.
        privacy: The guarantee asked for, its evaluation decided.
        rows: Training records.
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
    prepared = prepare_evaluation(settings)
    rows = prepared.task.load(Split.TRAIN)
    prepared.privacy.plan(len(rows))  # refuses what does not fit together; the noise is remembered
    return dataclasses.replace(prepared, rows=rows)


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
    plan = prepared.privacy.plan(len(prepared.rows))
    with ExitStack() as stack:
        booking = stack.enter_context(book(plan, prepared.rows, place, origin=origin))
        booking.refuse_another(plan, prepared.rows if origin else None)
        if origin is not None:
            booking.refuse_ended(noted_steps(charges))
        lease = booking.lease
        if origin is None or lease.intended == lease.steps:  # else it is paid for and not yet drawn
            _charge_metric(prepared, plan, booking)
        stack.pop_all()
    return booking


def _charge_metric(prepared: Prepared, plan: PrivacyPlan, booking: Booking) -> None:
    """Charge a noisy metric before anything is known of its outcome."""
    metric = prepared.privacy.metric(plan.length.adjacency)
    if metric is None:
        return
    booking.charge_release(
        metric,
        held_out_name(prepared.privacy),
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
    task = build_task(settings.task)
    base_model = _checked(settings, task)
    privacy = dataclasses.replace(
        settings.privacy,
        evaluation=settings.privacy.evaluation or task.evaluation or EvaluationStatus.NONE,
    )
    with_metrics = privacy.evaluation is not EvaluationStatus.NONE
    held_out = task.load(Split.VALIDATION) if with_metrics else []
    return Prepared(settings, task, base_model, privacy, [], held_out)


def _checked(settings: TrainSettings, task: Task) -> str:
    problems = task.problems()
    base_model = ""
    try:
        base_model = chosen_base_model(settings.model, task)
    except ConfigurationError as error:
        problems.extend(error.messages)
    if problems:
        raise ConfigurationError(problems)
    return base_model
