"""Everything that can be refused before a model is loaded: settings, files, records, the plan.

No torch in here.
"""

import dataclasses

from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus, Privacy
from dpft.recipes.base_models import chosen_base_model
from dpft.recipes.config.schema import TrainSettings
from dpft.recipes.tasks import Row, Split, Task, build_task

__all__ = ["Prepared", "prepare", "prepare_evaluation"]


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
