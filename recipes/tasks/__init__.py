"""Tasks: where records and their public label sets come from. No torch in here.

A task is one module with a settings class and a function, registered in `dpft.recipes.tasks.task`;
importing this package registers the tasks of the library.
"""

from dpft.recipes.tasks import embedded, sst2, text_classification
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
    "embedded",
    "register",
    "settings_classes",
    "sst2",
    "text_classification",
]
