"""What a task is, and which tasks there are.

May be imported by every task; imports none of them.
"""

import difflib
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypeVar

from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus

__all__ = ["Row", "Split", "Task", "TaskSettings", "build_task", "register", "settings_classes"]

Row: TypeAlias = dict[str, Any]
_Settings = TypeVar("_Settings", bound="TaskSettings")


class Split(str, Enum):
    """Part of a data set: records to `train` on, and held-out ones for `validation`."""

    TRAIN = "train"
    VALIDATION = "validation"


class TaskSettings(Protocol):
    """A validated dataclass whose field `name` is the task's registered name."""

    @property
    def name(self) -> str:
        """Name of the task."""
        ...


class Task(Protocol):
    """A classification task: records with public fields and a public set of labels."""

    @property
    def name(self) -> str:
        """Name in metrics and folders."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, declared public and never read off the records."""
        ...

    @property
    def text_field(self) -> str:
        """Field of a row that holds the text."""
        ...

    @property
    def label_field(self) -> str:
        """Field of a row that holds the label, an index into `labels`."""
        ...

    @property
    def descriptions(self) -> tuple[tuple[str, ...], ...]:
        """Public texts that describe each label, in the order of `labels`; none: empty."""
        ...

    @property
    def evaluation(self) -> EvaluationStatus | None:
        """What a metric costs unless `privacy.evaluation` says otherwise; None: no metrics."""
        ...

    def problems(self) -> list[str]:
        """Return what is wrong with the settings and files, without reading any record."""
        ...

    def default_model(self) -> str | None:
        """Return the folder or Hub name of the base model to use if none is asked for."""
        ...

    def load(self, split: Split) -> list[Row]:
        """Read the records of a split; raises `ConfigurationError` on a malformed one."""
        ...


_TASKS: dict[str, tuple[type[Any], Callable[[Any], Task]]] = {}


def register(name: str, settings: type[_Settings], make: Callable[[_Settings], Task]) -> None:
    """Make a task available under a name.

    Args:
        name: Name of the task, new; also the default of the field `name` of its settings.
        settings: Validated dataclass of the task's settings.
        make: Makes the task of its settings, without reading any record.

    Raises:
        ConfigurationError: If the name is taken.

    Privacy:
        Nothing, no data touched.
    """
    if name in _TASKS:
        raise ConfigurationError(
            f"Expected task={name} to be new. A second registration would change what a name "
            "means. Choose another name."
        )
    _TASKS[name] = (settings, make)


def settings_classes() -> dict[str, type[Any]]:
    """Return the settings class of every task, by the task's name.

    Privacy:
        Nothing, no data touched.
    """
    return {name: settings for name, (settings, _) in _TASKS.items()}


def build_task(settings: TaskSettings) -> Task:
    """Make the task of its settings, without reading any record.

    Args:
        settings: Settings of a registered task.

    Returns:
        The task.

    Raises:
        ConfigurationError: If no task of that name is registered.

    Privacy:
        Nothing, no data touched.
    """
    name = settings.name
    if name not in _TASKS:
        nearest = difflib.get_close_matches(name, _TASKS, n=1)
        hint = nearest[0] if nearest else ", ".join(sorted(_TASKS))
        raise ConfigurationError(
            f"Expected task={name} to be registered. Unknown tasks are never guessed. Try {hint}."
        )
    return _TASKS[name][1](settings)
