"""Records in the format of a benchmark, in a folder of one's own: what has to be said of them."""

from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.config.schema import TrainSettings
from dpft.recipes.tasks import Task

__all__ = ["refuse_undeclared_copy"]


def refuse_undeclared_copy(settings: TrainSettings, task: Task) -> None:
    """Raise if nobody said what records in the format of a public benchmark are.

    Args:
        settings: What was asked for.
        task: The task; its `evaluation` is public where its held-out records are the published
            ones, told by their content.

    Raises:
        ConfigurationError: If `task.path` names other records, and `privacy.evaluation` is unset,
            or `privacy.dataset_id` is that of the benchmark.

    Privacy:
        Compares raw held-out records with public digests. Private records must not pass for a
        benchmark: their metrics would be published, and their epsilon charged to it
        (`test_records_of_others_in_the_format_of_a_benchmark_are_not_public`).
    """
    path = getattr(settings.task, "path", None)
    if path is None or task.evaluation is EvaluationStatus.PUBLIC:
        return
    problems = []
    if settings.privacy.evaluation is None:
        problems.append(
            f"Expected privacy.evaluation to be given with task.path={path}. The held-out records "
            f"there are not those that were published as {task.name}, and metrics of private "
            "records would be published. Set privacy.evaluation=public if they are public, else "
            "privacy.evaluation=none."
        )
    name = settings.privacy.dataset_id
    if name in {task.name, getattr(getattr(settings.task, "corpus", None), "value", None)}:
        problems.append(
            f"Expected privacy.dataset_id={name} not to be that of the benchmark with task.path="
            f"{path}. The records there are others, and the benchmark's budget would be charged. "
            "Set privacy.dataset_id=NAME."
        )
    if problems:
        raise ConfigurationError(problems)
