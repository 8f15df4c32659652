"""What every task on files of your own is given, whatever it predicts."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.recipes.tasks.own_files import Layout, OwnFiles
from dpft.recipes.tasks.ownership import ownership_of

__all__ = ["FileSettings", "files_of"]


@validated
class FileSettings:
    """Where the records are, whose they are, and what becomes of long ones.

    Args:
        train: CSV, JSON lines or Parquet file of the training records.
        id_column: Column whose values must all be different.
        group_by: Column that names the owner of a record. Users are then sampled with all of
            their records, and the guarantee covers users.
        user_column: The same, with `max_records_per_user`.
        max_records_per_user: Public number of records of a user that are used at most. Records
            are sampled one by one, and the guarantee covers users of so many records.
        truncate: Whether texts longer than `architecture.max_length` are cut, the text before what
            is predicted. Otherwise they are refused.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    id_column: str | None = None
    group_by: str | None = None
    user_column: str | None = None
    max_records_per_user: Annotated[int, Field(ge=1)] | None = None
    truncate: bool = False


def files_of(settings: FileSettings, layout: Layout, validation: str | None) -> OwnFiles:
    """Return the files of a task.

    Args:
        settings: What the task was given.
        layout: What stands in the columns.
        validation: File of held-out records, None without metrics.

    Raises:
        ConfigurationError: If settings contradict each other.

    Privacy:
        Nothing, no data touched.
    """
    return OwnFiles(
        train=settings.train,
        validation=validation,
        layout=layout,
        ownership=ownership_of(settings),
        truncate=settings.truncate,
    )
