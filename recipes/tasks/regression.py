"""Prediction of a number from a text, or from two texts, in files of your own."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.recipes.tasks.own_files import Layout, OwnFiles, OwnFilesTask
from dpft.recipes.tasks.ownership import ownership_of
from dpft.recipes.tasks.task import register
from dpft.recipes.tasks.traits import TaskKind

__all__ = ["RegressionSettings", "regression"]


@validated
class RegressionSettings:
    """Which files and columns to use.

    Args:
        train: CSV, JSON lines or Parquet file of the training records.
        validation: File of held-out records.
        text_column: Column of the text.
        second_column: Column of a second text. Unset: there is none.
        target_column: Column of the number. Best of a size near one: the loss is its squared
            error, and clipping bounds what a record contributes in any case.
        id_column: Column whose values must all be different.
        group_by: As in `text_classification`.
        user_column: As in `text_classification`.
        max_records_per_user: As in `text_classification`.
        truncate: As in `text_classification`.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    validation: str | None = None
    text_column: str = "text"
    second_column: str | None = None
    target_column: str = "target"
    id_column: str | None = None
    group_by: str | None = None
    user_column: str | None = None
    max_records_per_user: Annotated[int, Field(ge=1)] | None = None
    truncate: bool = False
    name: str = "regression"


def regression(settings: RegressionSettings) -> OwnFilesTask:
    """Return the task of texts and numbers in files of your own.

    Args:
        settings: Which files and columns to use.

    Raises:
        ConfigurationError: If settings contradict each other.

    Privacy:
        As `OwnFilesTask`.
    """
    layout = Layout(
        text=settings.text_column,
        pair=settings.second_column,
        target=settings.target_column,
        kind=TaskKind.REGRESSION,
        identity=settings.id_column,
    )
    files = OwnFiles(
        train=settings.train,
        validation=settings.validation,
        layout=layout,
        ownership=ownership_of(settings),
        truncate=settings.truncate,
    )
    return OwnFilesTask("regression", files)


register("regression", RegressionSettings, regression)
