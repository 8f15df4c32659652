"""Whether held-out records suffice for their metric, before a model is loaded. No torch in here."""

from collections.abc import Sequence

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.registry import fewest_records
from dpft.recipes.tasks import Row, Split, Task
from dpft.recipes.tasks.traits import TaskKind, traits_of

__all__ = ["metric_of", "refuse_too_few"]

_DEFAULT_METRIC = "bleu"
_NO_RECORD = "A metric of no records is undefined"
_OF_NUMBERS = "A correlation with one number alone is undefined"
_OF_TABLES = (
    "CIDEr weighs n-grams by the share of tables without them, and of one all weights are 0"
)


def metric_of(task: Task) -> str:
    """Return the name of the metric of texts that a task is judged by.

    Privacy:
        Nothing, no data touched.
    """
    name: str = getattr(task, "metric", _DEFAULT_METRIC)
    return name


def refuse_too_few(rows: Sequence[Row], task: Task) -> None:
    """Raise if the metric of a task is not defined for so few held-out records.

    Args:
        rows: Held-out records, of which a metric was asked for.
        task: The task.

    Raises:
        ConfigurationError: If they are too few, or all have the same number to predict.

    Privacy:
        Messages name no content and no number of records but that there are none, or one alone
        (`tests/recipes/test_held_out_records.py`).
    """
    kind = traits_of(task).kind
    if not rows:
        raise _too_few(task, "at least one record", _NO_RECORD)
    if kind is TaskKind.REGRESSION and len({row[task.label_field] for row in rows}) < 2:
        raise _too_few(task, "two different numbers to predict or more", _OF_NUMBERS)
    if kind is TaskKind.TEXT:
        name, tables = metric_of(task), {row[task.text_field] for row in rows}
        fewest = fewest_records(name)
        if len(tables) < fewest:
            wanted = f"{fewest} different tables or more with metric={name}"
            raise _too_few(task, wanted, _OF_TABLES)


def _too_few(task: Task, wanted: str, why: str) -> ConfigurationError:
    """Name the setting that made them few, else the place of the records."""
    place = getattr(task, "place", None)
    where = "task.validation" if place is None else place(Split.VALIDATION)[0]
    judged = getattr(task, "judged", None)
    if judged is not None:
        where = f"{where} cut to task.judged={judged}"
    return ConfigurationError(
        f"Expected {where} to hold {wanted}. {why}. Name more held-out records"
        f"{'' if judged is None else ', raise task.judged'}, or set privacy.evaluation=none."
    )
