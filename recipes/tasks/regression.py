"""Prediction of a number from a text, or from two texts, in files of your own."""

from dpft.configuration import validated
from dpft.recipes.tasks.file_settings import FileSettings, files_of
from dpft.recipes.tasks.own_files import Layout, OwnFilesTask
from dpft.recipes.tasks.task import register
from dpft.recipes.tasks.traits import TaskKind

__all__ = ["RegressionSettings", "regression"]


@validated
class RegressionSettings(FileSettings):
    """Which files and columns to use.

    What all files have is described in `FileSettings`.

    Args:
        validation: File of held-out records.
        text_column: Column of the text.
        second_column: Column of a second text. Unset: there is none.
        target_column: Column of the number. Best of a size near one: the loss is its squared
            error, and clipping bounds what a record contributes in any case.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    validation: str | None = None
    text_column: str = "text"
    second_column: str | None = None
    target_column: str = "target"
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
    return OwnFilesTask("regression", files_of(settings, layout, settings.validation))


register("regression", RegressionSettings, regression)
