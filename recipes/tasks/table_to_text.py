"""Tables and the texts that say them, in files of your own."""

import dataclasses

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.recipes.tasks.file_settings import FileSettings, files_of
from dpft.recipes.tasks.own_files import Layout, OwnFilesTask
from dpft.recipes.tasks.ownership import Ownership
from dpft.recipes.tasks.references import References, note_on
from dpft.recipes.tasks.task import register
from dpft.recipes.tasks.traits import TaskKind

__all__ = ["TableToTextSettings", "table_to_text"]


@validated
class TableToTextSettings(FileSettings):
    """Which files and columns to use.

    What all files have is described in `FileSettings`.

    Args:
        table_column: Column of the table: text, taken as it stands, or in JSON lines and Parquet a
            list of rows of cells, written as "cell : cell | cell : cell".
        target_column: Column of the text.
        references: Whether all rows of one table are `one_record` together, or `several` records.
            The first is `group_by` with the column of the table.
        validation: File of held-out records; rows of one table are scored together.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    table_column: str = "table"
    target_column: str = "text"
    references: References = References.SEVERAL
    validation: str | None = None
    name: str = "table_to_text"


def table_to_text(settings: TableToTextSettings) -> OwnFilesTask:
    """Return the task of tables and texts in files of your own.

    Args:
        settings: Which files and columns to use.

    Raises:
        ConfigurationError: If settings contradict each other.

    Privacy:
        As `OwnFilesTask`.
    """
    layout = Layout(
        text=settings.table_column,
        target=settings.target_column,
        kind=TaskKind.TEXT,
        identity=settings.id_column,
        is_table=True,
    )
    files = files_of(settings, layout, settings.validation)
    owned = _ownership(settings, files.ownership)
    notes = (note_on(settings.references),)
    return OwnFilesTask("table_to_text", dataclasses.replace(files, ownership=owned, notes=notes))


def _ownership(settings: TableToTextSettings, given: Ownership | None) -> Ownership | None:
    if settings.references is References.SEVERAL:
        return given
    if given is not None:
        raise ConfigurationError(
            f"Expected only one of task.references={settings.references.value} and a column of "
            f"owners, task.group_by or task.user_column={given.column}. Both say whose a row is. "
            "Unset one of them."
        )
    return Ownership(settings.table_column)


register("table_to_text", TableToTextSettings, table_to_text)
