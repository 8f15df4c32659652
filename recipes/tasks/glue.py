"""The tasks of GLUE: single sentences, pairs, and one number; SST-2 has a module of its own.

A folder holds `train` and `validation` as Parquet, JSON lines or CSV, with the columns of the Hub.
Where the official training file is not there, what takes its place is stated in the report: a part
of it, or four fifths of the complete development files.
"""

import hashlib
from collections.abc import Iterator
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.tasks.glue_tasks import GLUE, GlueTask
from dpft.recipes.tasks.hub import HubPlace, hub_problems, hub_rows
from dpft.recipes.tasks.places import assets_folder, default_encoder
from dpft.recipes.tasks.published import status_of_copy
from dpft.recipes.tasks.tables import (
    FORMATS,
    first_problems,
    is_text,
    read_rows,
    row_problem,
)
from dpft.recipes.tasks.task import Row, Split, register
from dpft.recipes.tasks.traits import TaskKind, Traits

__all__ = ["Glue", "GlueSettings", "MnliPart", "MnliSettings"]

_HUB_NAME = "nyu-mll/glue"
_HELD_OUT = 5  # of the development files, one text in so many
_SPLIT = (
    "The official training file was not there. Of the complete development files, records whose "
    "first text has a SHA-256 divisible by 5 were held out, and the others trained on. A first "
    "text stands on one side alone, a second text may stand on both, as many of QNLI do."
)
_PART = "The training file holds a part of the official one."


class MnliPart(str, Enum):
    """Which development records of MNLI the metric is taken on."""

    MATCHED = "matched"
    MISMATCHED = "mismatched"


class GlueSettings(Protocol):
    """Settings of a task of GLUE."""

    @property
    def name(self) -> str:
        """Name of the task."""
        ...

    @property
    def path(self) -> str | None:
        """Folder of the files; unset: the assets folder, else the Hub."""
        ...


@validated
class MnliSettings:
    """Where MNLI is, and what it is judged by.

    Args:
        path: Folder of the files. Unset: the assets folder, else the Hub.
        part: Which development records the metric is taken on.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    path: str | None = None
    part: MnliPart = MnliPart.MATCHED
    name: str = "mnli"


class Glue:
    """A task of GLUE.

    Args:
        task: Columns, labels and files.
        settings: Where it is.

    Privacy:
        The benchmark is public, hence metrics on its development records cost nothing; on other
        records in its format nobody knows (`dpft.recipes.tasks.published`). The split
        of development files reads one record at a time.
    """

    text_field = "text"
    descriptions: tuple[tuple[str, ...], ...] = ()
    label_field = "label"

    def __init__(self, task: GlueTask, settings: GlueSettings) -> None:
        self._task = task
        self._settings = settings
        self.name = settings.name
        self.labels = task.labels

    @cached_property
    def evaluation(self) -> EvaluationStatus | None:
        """What a metric costs: nothing on published records, unknown on others in their format."""
        path = self._settings.path
        file = None if path is None else _found(Path(path), self._judged_by())
        return status_of_copy(path, file, self._task.columns)

    @property
    def traits(self) -> Traits:
        """What sets the task apart, and what stands in for a missing training file."""
        folder = self._folder()
        notes: tuple[str, ...] = ()
        if folder is not None:
            notes = (_SPLIT,) * self._is_split(folder) + (_PART,) * self._is_part(folder)
        return Traits(
            kind=TaskKind.REGRESSION if self._task.is_regression else TaskKind.CLASSIFICATION,
            pair_field="pair" if self._task.second else None,
            figures=self.name,
            notes=notes,
        )

    def problems(self) -> list[str]:
        """Return what is wrong with the place of the files, without reading any record."""
        folder = self._folder()
        if folder is None:
            return hub_problems(self._on_the_hub, self.name)
        missing = [stem for stem in self._development() if _found(folder, stem) is None]
        return [
            f"Expected folder={folder} to hold {stem} as {', '.join(FORMATS)}. {self.name} is "
            "judged by it. Correct task.path."
            for stem in missing
        ]

    def default_model(self) -> str | None:
        """Return the MiniLM encoder of the assets folder, else its Hub name."""
        return default_encoder()

    def load(self, split: Split) -> list[Row]:
        """Read a split.

        Privacy:
            Reads raw records; nothing is released.
        """
        folder = self._folder()
        if folder is None:
            stem = "train" if split is Split.TRAIN else self._judged_by()
            rows = hub_rows(self._on_the_hub, stem, self.name)
            return self._checked(Path(_HUB_NAME), rows)
        if self._is_split(folder):
            kept = split is Split.VALIDATION
            stems = (self._judged_by(),) if kept else self._development()
            read = (row for stem in stems for row in self._read(folder, stem))
            return [row for row in read if _is_held_out(row) is kept]
        if split is Split.VALIDATION:
            return self._read(folder, self._judged_by())
        return self._read(folder, "train_part" if self._is_part(folder) else "train")

    def _judged_by(self) -> str:
        part = getattr(self._settings, "part", None)
        return "validation" if part is None else f"validation_{part.value}"

    def _development(self) -> tuple[str, ...]:
        return self._task.development

    def _is_split(self, folder: Path) -> bool:
        return not self._is_part(folder) and _found(folder, "train") is None

    def _is_part(self, folder: Path) -> bool:
        return _found(folder, "train") is None and _found(folder, "train_part") is not None

    def _read(self, folder: Path, stem: str) -> list[Row]:
        path = _found(folder, stem)
        if path is None:
            raise ConfigurationError(
                f"Expected folder={folder} to hold {stem}. There is nothing to read. Correct "
                "task.path."
            )
        return self._checked(path, read_rows(path, self._task.columns))

    def _checked(self, path: Path, rows: list[Row]) -> list[Row]:
        problems = list(self._problems_of(path, rows))
        if problems:
            raise ConfigurationError(first_problems(problems))
        return [self._fields(row) for row in rows]

    def _problems_of(self, path: Path, rows: list[Row]) -> Iterator[str]:
        rule = "be in the task's range" if self._task.is_regression else "be a label of the task"
        for number, row in enumerate(rows, 1):
            if self._task.value(row["label"]) is None:
                yield row_problem(path, number, "label", rule)
            for column in self._task.texts:
                if not is_text(row[column]):
                    yield row_problem(path, number, column, "hold text in Unicode")

    def _fields(self, row: Row) -> Row:
        fields = {"text": row[self._task.first], "label": self._task.value(row["label"])}
        return fields | ({"pair": row[self._task.second]} if self._task.second else {})

    @property
    def _on_the_hub(self) -> HubPlace:
        return HubPlace(_HUB_NAME, self.name)

    def _folder(self) -> Path | None:
        if self._settings.path is not None:
            return Path(self._settings.path)
        assets = assets_folder()
        local = None if assets is None else assets / "data" / "glue" / self.name
        return local if local is not None and local.is_dir() else None


def _found(folder: Path, stem: str) -> Path | None:
    paths = (folder / f"{stem}{ending}" for ending in FORMATS)
    return next((path for path in paths if path.is_file()), None)


def _is_held_out(row: Row) -> bool:
    return int(hashlib.sha256(row["text"].encode()).hexdigest(), 16) % _HELD_OUT == 0


def _settings_of(task: str) -> type[Any]:
    """Return the settings class of a task, which carries its name."""

    @validated
    class GlueTaskSettings:
        """Where a task of GLUE is: a folder; unset: the assets folder, else the Hub."""

        path: str | None = None
        name: str = task

    return GlueTaskSettings


for _name, _task in GLUE.items():
    _declared: type[Any] = MnliSettings if _name == "mnli" else _settings_of(_name)
    register(_name, _declared, partial(Glue, _task))
