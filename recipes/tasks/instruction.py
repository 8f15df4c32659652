"""Instructions and responses in files of your own."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.recipes.tasks.own_files import Layout, OwnFiles, OwnFilesTask
from dpft.recipes.tasks.ownership import ownership_of
from dpft.recipes.tasks.task import register
from dpft.recipes.tasks.traits import TaskKind

__all__ = ["InstructionSettings", "instruction"]


@validated
class InstructionSettings:
    """Which files and columns to use.

    A model reads the instruction, a line break, the input if there is a column of inputs, and
    another line break; it learns the response alone.

    Args:
        train: CSV, JSON lines or Parquet file of the training records.
        instruction_column: Column of the instruction.
        input_column: Column of what the instruction is about. Unset: there is none.
        response_column: Column of the response.
        id_column: Column whose values must all be different.
        group_by: As in `text_classification`.
        user_column: As in `text_classification`.
        max_records_per_user: As in `text_classification`.
        truncate: As in `text_classification`; the instruction is cut before the response.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    instruction_column: str = "instruction"
    input_column: str | None = None
    response_column: str = "response"
    id_column: str | None = None
    group_by: str | None = None
    user_column: str | None = None
    max_records_per_user: Annotated[int, Field(ge=1)] | None = None
    truncate: bool = False
    name: str = "instruction"


def instruction(settings: InstructionSettings) -> OwnFilesTask:
    """Return the task of instructions and responses in files of your own.

    Args:
        settings: Which files and columns to use.

    Raises:
        ConfigurationError: If settings contradict each other.

    Privacy:
        As `OwnFilesTask`.
    """
    layout = Layout(
        text=settings.instruction_column,
        pair=settings.input_column,
        target=settings.response_column,
        kind=TaskKind.TEXT,
        identity=settings.id_column,
    )
    files = OwnFiles(
        train=settings.train,
        validation=None,
        layout=layout,
        ownership=ownership_of(settings),
        truncate=settings.truncate,
    )
    return OwnFilesTask("instruction", files)


register("instruction", InstructionSettings, instruction)
