"""Records in files of your own: which columns become which fields, and what is refused by row.

What a task is about stands in its own module; reading, checking and owners are the same for all.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.linearisation import linearise
from dpft.recipes.tasks.ownership import OWNER_FIELD, Ownership
from dpft.recipes.tasks.tables import FORMATS, first_problems, is_text, read_rows, row_problem
from dpft.recipes.tasks.task import Row, Split
from dpft.recipes.tasks.traits import TaskKind, Traits
from dpft.users import owners_in

__all__ = ["Layout", "OwnFiles", "OwnFilesTask"]

_TEXT = "hold text, in Unicode and not empty"
_LABELS_READ = "The set of labels: it was read off the training records and declared public."
_MOST_LABELS_READ = 100  # more are hardly labels, and what is read is published
_CUT = "Texts longer than the model takes were cut (task.truncate=true)."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Which columns of the files are which fields of a record.

    Args:
        text: Column of the text.
        target: Column of what is predicted.
        pair: Column of a second text.
        kind: What is predicted.
        labels: All labels there are, where labels are predicted; unset: those of the training file.
        identity: Column whose values are all different, checked if it is named.
        is_table: Whether the text may be a table: a list of rows of cells.

    Privacy:
        Nothing, no data touched.
    """

    text: str
    target: str
    pair: str | None = None
    kind: TaskKind = TaskKind.CLASSIFICATION
    labels: tuple[str, ...] | None = None
    identity: str | None = None
    is_table: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnFiles:
    """Where the records are.

    Args:
        train: File of the training records.
        validation: File of held-out records, None without metrics.
        layout: What stands in the columns.
        ownership: Whose the records are, None where the unit is a record.
        truncate: Whether texts longer than the model takes are cut.
        notes: Public sentences on the records, for the report.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    validation: str | None
    layout: Layout
    ownership: Ownership | None = None
    truncate: bool = False
    notes: tuple[str, ...] = ()


class OwnFilesTask:
    """A task whose records stand in files.

    Args:
        name: Name of the task.
        files: Where they are.

    Raises:
        ConfigurationError: If a label is declared twice.

    Privacy:
        Held-out records are as private as the training records until somebody says otherwise:
        there is no metric unless `privacy.evaluation` is set. Messages name files, rows and
        columns, never content (`tests/recipes/test_own_files.py`).
    """

    text_field = "text"
    descriptions: tuple[tuple[str, ...], ...] = ()
    label_field = "label"
    evaluation: EvaluationStatus | None = None

    def __init__(self, name: str, files: OwnFiles) -> None:
        self.name = name
        self._files = files
        self._labels = files.layout.labels
        declared = files.layout.labels or ()
        if len(set(declared)) != len(declared):
            raise ConfigurationError(
                f"Expected task.labels={list(declared)} to differ from each other. Each "
                "label is one class. Remove the repetition."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; of a number or a text, the one name of it.

        Privacy:
            Where none were declared they are read off the training file, and the certificate says
            that they were declared public.
        """
        if self._files.layout.kind is not TaskKind.CLASSIFICATION:
            return (self._files.layout.target,)
        if self._labels is None:
            self._labels = self._labels_of_training_file()
        return self._labels

    @property
    def traits(self) -> Traits:
        """What sets the task apart."""
        layout, ownership = self._files.layout, self._files.ownership
        read = layout.kind is TaskKind.CLASSIFICATION and layout.labels is None
        return Traits(
            kind=layout.kind,
            pair_field=None if layout.pair is None else "pair",
            is_table=layout.is_table,
            owner_field=None if ownership is None else OWNER_FIELD,
            records_per_user=None if ownership is None else ownership.records_per_user,
            truncate=self._files.truncate,
            notes=(*self._files.notes, *((_CUT,) if self._files.truncate else ())),
            declared_public=(_LABELS_READ,) if read else (),
        )

    def problems(self) -> list[str]:
        """Return what is wrong with the files, without reading any record."""
        named = {"train": self._files.train, "validation": self._files.validation}
        return [
            f"Expected task.{key}={file} to be a file that ends in one of {', '.join(FORMATS)}. "
            "There is nothing to read. Correct the path."
            for key, file in named.items()
            if file is not None and not (Path(file).is_file() and Path(file).suffix in FORMATS)
        ]

    def default_model(self) -> str | None:
        """Return None: the base model is chosen by the user."""
        return None

    def load(self, split: Split) -> list[Row]:
        """Read and check a split.

        Raises:
            ConfigurationError: If the file is empty, a record is malformed, or there is no file of
                the split.

        Privacy:
            Reads raw records; nothing is released, and messages never quote a record.
        """
        path, layout = self._file(split), self._files.layout
        ownership = self._files.ownership if split is Split.TRAIN else None
        owner = None if ownership is None else ownership.column
        columns = (layout.text, layout.pair, layout.target, layout.identity, owner)
        rows = _not_empty(path, read_rows(path, dict.fromkeys(each for each in columns if each)))
        if layout.is_table:
            rows = [row | {layout.text: _table(row[layout.text])} for row in rows]
        owners = None if owner is None else owners_in(rows, owner, f"file={path.name}")
        checked = self._checked(path, rows)
        if owners is None:
            return checked
        return [{**row, OWNER_FIELD: name} for row, name in zip(checked, owners, strict=True)]

    def _checked(self, path: Path, rows: Sequence[Row]) -> list[Row]:
        layout = self._files.layout
        texts = {"text": layout.text} | ({"pair": layout.pair} if layout.pair else {})
        target = self._target()
        problems = _repetitions(path, rows, layout.identity)
        checked: list[Row] = []
        for number, row in enumerate(rows, 1):
            problems += _text_problems(path, number, row, texts.values())
            value = target.read(row[layout.target])
            if value is None:
                problems.append(row_problem(path, number, layout.target, target.rule))
            fields = {field: row[column] for field, column in texts.items()}
            checked.append({**fields, self.label_field: value})
        if problems:
            raise ConfigurationError(first_problems(problems))
        return checked

    def _target(self) -> "_Target":
        kind = self._files.layout.kind
        if kind is TaskKind.REGRESSION:
            return _Target(_number, "be a finite number")
        if kind is TaskKind.TEXT:
            return _Target(_text, _TEXT)
        indices = {label: index for index, label in enumerate(self.labels)}
        rule = "be one of the declared labels (task.labels)"
        return _Target(lambda value: indices.get(_label(value) or ""), rule)

    def _labels_of_training_file(self) -> tuple[str, ...]:
        path, column = self._file(Split.TRAIN), self._files.layout.target
        rows = _not_empty(path, read_rows(path, (column,)))
        read = [_label(row[column]) for row in rows]
        wrong = [
            row_problem(path, number, column, "hold a label: text, a number, true or false")
            for number, label in enumerate(read, 1)
            if label is None
        ]
        if wrong:
            raise ConfigurationError(first_problems(wrong))
        found = {label for label in read if label is not None}
        _refuse_other_than_labels(path, column, len(found), len(rows))
        return tuple(sorted(found))

    def place(self, split: Split) -> tuple[str, str]:
        """Return file and columns of a split's texts, for messages that name a row of it.

        Privacy:
            Nothing, no data touched.
        """
        layout = self._files.layout
        columns = [layout.text, *([layout.pair] if layout.pair else [])]
        if layout.kind is TaskKind.TEXT:
            columns.append(layout.target)
        return f"file={self._file(split).name}", f" column={'+'.join(columns)}"

    def _file(self, split: Split) -> Path:
        file = self._files.train if split is Split.TRAIN else self._files.validation
        if file is None:
            raise ConfigurationError(
                "Expected task.validation to be given with privacy.evaluation. A metric needs "
                "held-out records. Set task.validation, or privacy.evaluation=none."
            )
        return Path(file)


@dataclasses.dataclass(frozen=True)
class _Target:
    """How the value to predict is read, None if it is malformed, and what is asked of it."""

    read: Callable[[Any], Any]
    rule: str


def _refuse_other_than_labels(path: Path, column: str, labels: int, records: int) -> None:
    """Raise if what was read is hardly a set of labels; it would be published as one."""
    if labels < 2:
        raise ConfigurationError(
            f"Expected file={path.name} column={column} to hold two labels or more. One class "
            "is nothing to learn. Correct task.label_column, or declare task.labels."
        )
    if labels > max(2, min(_MOST_LABELS_READ, records // 2)):
        raise ConfigurationError(
            f"Expected file={path.name} column={column} to hold at most {_MOST_LABELS_READ} "
            "labels, each of two records on average. Labels that are read off the records are "
            "published, and free text among them would be. Correct task.label_column, or declare "
            "task.labels."
        )


def _label(value: Any) -> str | None:
    """Return a label as text, None if it is none; an integer and its text are the same label."""
    if isinstance(value, float):
        return str(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, int) or _text(value) is not None else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str | None:
    """Return text, None if it is empty or no Unicode, as half of a surrogate pair in JSON is."""
    return value if is_text(value) and value.strip() else None


def _table(value: Any) -> Any:
    """Return a list of rows of cells as one line; anything else as it is."""
    rows = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(rows, list) or not rows:
        return value
    if not all(isinstance(row, list | tuple) and row for row in rows):
        return None
    if not all(isinstance(cell, str | int | float) for row in rows for cell in row):
        return None
    return linearise([[str(cell) for cell in row] for row in rows])


def _text_problems(path: Path, number: int, row: Row, columns: Any) -> list[str]:
    wrong = [column for column in columns if _text(row[column]) is None]
    return [row_problem(path, number, column, _TEXT) for column in wrong]


def _repetitions(path: Path, rows: Sequence[Mapping[str, Any]], column: str | None) -> list[str]:
    if column is None:
        return []
    seen: dict[str, int] = {}
    problems = []
    for number, row in enumerate(rows, 1):
        first = seen.setdefault(str(row[column]), number)
        if first != number:
            rule = f"differ from that of row {first}"
            problems.append(row_problem(path, number, column, rule))
    return problems


def _not_empty(path: Path, rows: list[Row]) -> list[Row]:
    if rows:
        return rows
    raise ConfigurationError(
        f"Expected file={path.name} to hold at least one record. There is nothing to learn from. "
        "Name another file."
    )
