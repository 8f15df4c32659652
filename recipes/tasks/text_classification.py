"""Classification of texts in files of your own."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.recipes.tasks.file_settings import FileSettings, files_of
from dpft.recipes.tasks.own_files import Layout, OwnFilesTask
from dpft.recipes.tasks.task import register

__all__ = ["TextClassificationSettings", "text_classification"]


@validated
class TextClassificationSettings(FileSettings):
    """Which files and columns to use.

    What all files have is described in `FileSettings`.

    Args:
        labels: All labels there are, as they stand in the label column. They are declared public.
            Unset: those of the training file, which is a statement that they are public.
        validation: File of held-out records.
        text_column: Column of the text.
        label_column: Column of the label.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    validation: str | None = None
    text_column: str = "text"
    label_column: str = "label"
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
    return OwnFilesTask("text_classification", files_of(settings, layout, settings.validation))


register("text_classification", TextClassificationSettings, text_classification)
