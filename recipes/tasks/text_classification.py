"""Classification of texts in files of your own."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.recipes.tasks.own_files import Layout, OwnFiles, OwnFilesTask
from dpft.recipes.tasks.ownership import ownership_of
from dpft.recipes.tasks.task import register

__all__ = ["TextClassificationSettings", "text_classification"]


@validated
class TextClassificationSettings:
    """Which files and columns to use.

    Args:
        train: CSV, JSON lines or Parquet file of the training records.
        labels: All labels there are, as they stand in the label column. They are declared public.
            Unset: those of the training file, which is a statement that they are public.
        validation: File of held-out records.
        text_column: Column of the text.
        label_column: Column of the label.
        id_column: Column whose values must all be different.
        group_by: Column that names the owner of a record. Users are then sampled with all of
            their records, and the guarantee covers users.
        user_column: The same, with `max_records_per_user`.
        max_records_per_user: Public number of records of a user that are used at most. Records
            are sampled one by one, and the guarantee covers users of so many records.
        truncate: Whether texts longer than `architecture.max_length` are cut. Otherwise they are
            refused.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    validation: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    id_column: str | None = None
    group_by: str | None = None
    user_column: str | None = None
    max_records_per_user: Annotated[int, Field(ge=1)] | None = None
    truncate: bool = False
    name: str = "text_classification"


def text_classification(settings: TextClassificationSettings) -> OwnFilesTask:
    """Return the task of texts and labels in files of your own.

    Args:
        settings: Which files and columns to use.

    Raises:
        ConfigurationError: If settings contradict each other.

    Privacy:
        As `OwnFilesTask`.
    """
    layout = Layout(
        text=settings.text_column,
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
    return OwnFilesTask("text_classification", files)


register("text_classification", TextClassificationSettings, text_classification)
