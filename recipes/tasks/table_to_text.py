"""Tables and the texts that say them, in files of your own."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.recipes.tasks.own_files import Layout, OwnFiles, OwnFilesTask
from dpft.recipes.tasks.ownership import Ownership, ownership_of
from dpft.recipes.tasks.references import References, note_on
from dpft.recipes.tasks.task import register
from dpft.recipes.tasks.traits import TaskKind

__all__ = ["TableToTextSettings", "table_to_text"]


@validated
class TableToTextSettings:
    """Which files and columns to use.

    Args:
        train: CSV, JSON lines or Parquet file of the training records.
        table_column: Column of the table: text, taken as it stands, or in JSON lines and Parquet a
            list of rows of cells, written as "cell : cell | cell : cell".
        target_column: Column of the text.
        references: Whether all rows of one table are `one_record` together, or `several` records.
            The first is `group_by` with the column of the table.
        validation: File of held-out records; rows of one table are scored together.
        id_column: Column whose values must all be different.
        group_by: As in `text_classification`.
        user_column: As in `text_classification`.
        max_records_per_user: As in `text_classification`.
        truncate: As in `text_classification`; the table is cut before the text.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    table_column: str = "table"
    target_column: str = "text"
    references: References = References.SEVERAL
    validation: str | None = None
    id_column: str | None = None
    group_by: str | None = None
    user_column: str | None = None
    max_records_per_user: Annotated[int, Field(ge=1)] | None = None
    truncate: bool = False
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
    files = OwnFiles(
        train=settings.train,
        validation=settings.validation,
        layout=layout,
        ownership=_ownership(settings),
        truncate=settings.truncate,
        notes=(note_on(settings.references),),
    )
    return OwnFilesTask("table_to_text", files)


def _ownership(settings: TableToTextSettings) -> Ownership | None:
    given = ownership_of(settings)
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
