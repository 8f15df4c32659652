"""Instructions and responses in files of your own."""

from dpft.configuration import validated
from dpft.recipes.tasks.file_settings import FileSettings, files_of
from dpft.recipes.tasks.own_files import Layout, OwnFilesTask
from dpft.recipes.tasks.task import register
from dpft.recipes.tasks.traits import TaskKind

__all__ = ["InstructionSettings", "instruction"]


@validated
class InstructionSettings(FileSettings):
    """Which files and columns to use.

    A model reads the instruction, a line break, the input if there is a column of inputs, and
    another line break; it learns the response alone.

    What all files have is described in `FileSettings`.

    Args:
        instruction_column: Column of the instruction.
        input_column: Column of what the instruction is about. Unset: there is none.
        response_column: Column of the response.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    instruction_column: str = "instruction"
    input_column: str | None = None
    response_column: str = "response"
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
    return OwnFilesTask("instruction", files_of(settings, layout, None))


register("instruction", InstructionSettings, instruction)
