"""What a task may say of itself beyond its records: their owners, what is predicted, notes.

A task that says nothing is a classification of single texts, whose unit is a record.
"""

import dataclasses
from enum import Enum
from typing import TYPE_CHECKING

from dpft.accounting import Unit

if TYPE_CHECKING:
    from dpft.recipes.tasks.task import Task

__all__ = ["TaskKind", "Traits", "traits_of"]


class TaskKind(str, Enum):
    """What is predicted of a record: one of several labels, a number, or a text."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    TEXT = "text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traits:
    """What sets a task apart from a classification of single texts.

    Args:
        kind: What is predicted.
        pair_field: Field of a row that holds a second text.
        is_table: Whether the text is a table, for which a text is to be written.
        owner_field: Field of a row that names the record's owner; the unit is then a user.
        records_per_user: Public number of records of a user that are used at most. Unset with an
            owner: users are sampled whole.
        truncate: Whether texts longer than the model takes are cut; else they are refused.
        figures: Task of GLUE whose figures are reported beside or instead of accuracy.
        notes: Public sentences on the data, for the report.
        declared_public: Public sentences on what was read off the records and is covered by no
            guarantee.

    Privacy:
        Nothing, no data touched; the sentences are published as they stand.
    """

    kind: TaskKind = TaskKind.CLASSIFICATION
    pair_field: str | None = None
    is_table: bool = False
    owner_field: str | None = None
    records_per_user: int | None = None
    truncate: bool = True
    figures: str | None = None
    notes: tuple[str, ...] = ()
    declared_public: tuple[str, ...] = ()

    @property
    def unit(self) -> Unit:
        """What a guarantee for this task covers."""
        return Unit.RECORD if self.owner_field is None else Unit.USER


def traits_of(task: "Task") -> Traits:
    """Return what a task says of itself in its attribute `traits`, if it has one.

    Privacy:
        Nothing, no data touched.
    """
    found: Traits = getattr(task, "traits", Traits())
    return found
