"""Classification of pairs of texts in files of your own."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.recipes.tasks.own_files import Layout, OwnFiles, OwnFilesTask
from dpft.recipes.tasks.ownership import ownership_of
from dpft.recipes.tasks.task import register

__all__ = ["TextPairSettings", "text_pair"]


@validated
class TextPairSettings:
    """Which files and columns to use.

    Args:
        train: CSV, JSON lines or Parquet file of the training records.
        labels: As in `text_classification`.
        validation: File of held-out records.
        first_column: Column of the first text.
        second_column: Column of the second text.
        label_column: Column of the label.
        id_column: Column whose values must all be different.
        group_by: As in `text_classification`.
        user_column: As in `text_classification`.
        max_records_per_user: As in `text_classification`.
        truncate: As in `text_classification`, of both texts together.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    validation: str | None = None
    first_column: str = "text1"
    second_column: str = "text2"
    label_column: str = "label"
    id_column: str | None = None
    group_by: str | None = None
    user_column: str | None = None
    max_records_per_user: Annotated[int, Field(ge=1)] | None = None
    truncate: bool = False
    name: str = "text_pair"


def text_pair(settings: TextPairSettings) -> OwnFilesTask:
    """Return the task of pairs of texts and labels in files of your own.

    Args:
        settings: Which files and columns to use.

    Raises:
        ConfigurationError: If settings contradict each other.

    Privacy:
        As `OwnFilesTask`.
    """
    layout = Layout(
        text=settings.first_column,
        pair=settings.second_column,
        target=settings.label_column,
        labels=settings.labels,
        identity=settings.id_column,
    )
    files = OwnFiles(
        train=settings.train,
        validation=settings.validation,
        layout=layout,
        ownership=ownership_of(settings),
        truncate=settings.truncate,
    )
    return OwnFilesTask("text_pair", files)


register("text_pair", TextPairSettings, text_pair)
