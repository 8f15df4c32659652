"""Whose records a file holds, as the settings of a task say it."""

import dataclasses
from typing import Protocol

from dpft.errors import ConfigurationError

__all__ = ["OWNER_FIELD", "OwnedSettings", "Ownership", "ownership_of"]

OWNER_FIELD = "user"


class OwnedSettings(Protocol):
    """Settings of a task whose records may belong to users."""

    @property
    def group_by(self) -> str | None:
        """Column that names the owner; users are sampled whole."""
        ...

    @property
    def user_column(self) -> str | None:
        """Column that names the owner, where records are sampled one by one."""
        ...

    @property
    def max_records_per_user(self) -> int | None:
        """Public number of records of a user that are used at most."""
        ...


@dataclasses.dataclass(frozen=True)
class Ownership:
    """Which column names the owner, and how many records of one owner are used.

    Args:
        column: Column of the file.
        records_per_user: Largest number, None where users are sampled whole.

    Privacy:
        Nothing, no data touched.
    """

    column: str
    records_per_user: int | None = None


def ownership_of(settings: OwnedSettings) -> Ownership | None:
    """Return whose the records are, None where the unit is a record.

    Args:
        settings: At most one of `group_by` and `max_records_per_user` is given, the second with
            `user_column`.

    Raises:
        ConfigurationError: If they contradict each other.

    Privacy:
        Nothing, no data touched.
    """
    group, column, most = settings.group_by, settings.user_column, settings.max_records_per_user
    if group is not None and (most is not None or column is not None):
        raise ConfigurationError(
            f"Expected only one of task.group_by={group} and task.max_records_per_user={most} "
            f"(task.user_column={column}). The first samples users with all of their records, the "
            "second samples records and counts with so many of each user. Unset one of them."
        )
    if (most is None) != (column is None):
        raise ConfigurationError(
            f"Expected task.max_records_per_user={most} and task.user_column={column} together. A "
            "largest number needs to know whose the records are, and owners alone change nothing. "
            "Set both, or task.group_by=COLUMN to sample users whole."
        )
    if group is not None:
        return Ownership(group)
    return None if column is None else Ownership(column, most)
