"""Classification of pairs of texts in files of your own."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.recipes.tasks.file_settings import FileSettings, files_of
from dpft.recipes.tasks.own_files import Layout, OwnFilesTask
from dpft.recipes.tasks.task import register

__all__ = ["TextPairSettings", "text_pair"]


@validated
class TextPairSettings(FileSettings):
    """Which files and columns to use.

    What all files have is described in `FileSettings`.

    Args:
        labels: As in `text_classification`.
        validation: File of held-out records.
        first_column: Column of the first text.
        second_column: Column of the second text.
        label_column: Column of the label.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    validation: str | None = None
    first_column: str = "text1"
    second_column: str = "text2"
    label_column: str = "label"
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
    return OwnFilesTask("text_pair", files_of(settings, layout, settings.validation))


register("text_pair", TextPairSettings, text_pair)
