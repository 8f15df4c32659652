"""Tasks: where records and their public label sets come from. No torch in here.

A task is one module with a settings class and a function, registered in `dpft.recipes.tasks.task`;
importing this package registers the tasks of the library.
"""

from dpft.recipes.tasks import (
    corpus,
    embedded,
    embedded_table_to_text,
    glue,
    instruction,
    regression,
    sst2,
    table_corpora,
    table_to_text,
    text_classification,
    text_pair,
)
from dpft.recipes.tasks.task import (
    Row,
    Split,
    Task,
    TaskSettings,
    build_task,
    register,
    settings_classes,
)

__all__ = [
    "Row",
    "Split",
    "Task",
    "TaskSettings",
    "build_task",
    "corpus",
    "embedded",
    "embedded_table_to_text",
    "glue",
    "instruction",
    "register",
    "regression",
    "settings_classes",
    "sst2",
    "table_corpora",
    "table_to_text",
    "text_classification",
    "text_pair",
]
