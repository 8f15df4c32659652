"""E2E, DART and WebNLG: public benchmarks of tables and texts that describe them."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.linearisation import linearise
from dpft.recipes.tasks.ownership import OWNER_FIELD
from dpft.recipes.tasks.references import References, note_on, owned_by_table
from dpft.recipes.tasks.tables import first_problems, read_rows, row_problem, table_in
from dpft.recipes.tasks.task import Row, Split, register
from dpft.recipes.tasks.traits import TaskKind, Traits

__all__ = [
    "HUB_DECODER",
    "JudgedOn",
    "TableCorpus",
    "TableCorpusSettings",
    "TableCorpusTask",
]

HUB_DECODER = "openai-community/gpt2"
_ASSETS_VARIABLE = "DPFT_ASSETS"
_CUT = "Tables longer than the model takes were cut (task.truncate=true)."
_SLOT = re.compile(r"(\w[\w ]*)\[([^\]]*)\]")
# As in the files of Li and Liang 2021, which the papers on GPT-2 share.
_SLOT_NAMES = {"eatType": "Type", "familyFriendly": "family friendly", "priceRange": "price"}
_TABLE = tuple[str, list[str]]


class JudgedOn(str, Enum):
    """Which file the metrics are taken on: `validation`, for choosing settings, or `test`."""

    TEST = "test"
    VALIDATION = "validation"


@validated
class TableCorpusSettings:
    """Where a benchmark is, and what a record of it is.

    Args:
        name: Name of the task.
        references: Whether the references of one table are one record together or several.
        judged_on: Which file the metrics are taken on.
        judged: Most tables that metrics are taken on, evenly spaced in their file; unset: all.
        truncate: Whether tables that leave no room for their text are cut. Otherwise they are
            refused.
        path: Folder of the benchmark, one file a split. Unset: in the assets folder.

    Privacy:
        Nothing, no data touched.
    """

    name: str
    references: References = References.SEVERAL
    judged_on: JudgedOn = JudgedOn.VALIDATION
    judged: Annotated[int, Field(ge=1)] | None = None
    truncate: bool = False
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class TableCorpus:
    """What sets a benchmark apart.

    Args:
        folder: Its folder below the data folder.
        train: Names of the training file without ending, the first that exists is read.
        columns: Columns of the files.
        tables: Turns a file's rows into tables as text with their references, and names the rows
            that are malformed.
        metric: Name of its metric.
        notes: Public sentences on the data.

    Privacy:
        Nothing, no data touched.
    """

    folder: str
    train: tuple[str, ...]
    columns: tuple[str, ...]
    tables: Callable[[Path, Sequence[Row]], list[_TABLE]]
    metric: str
    notes: tuple[str, ...] = ()


class TableCorpusTask:
    """Tables as one line of text, and texts that describe them.

    Args:
        corpus: The benchmark.
        settings: Where it is, and what a record of it is.

    Privacy:
        The benchmarks are public, hence metrics cost nothing; the training rows are treated as
        private. What a record is follows `task.references`
        (`tests/recipes/test_table_corpora.py`).
    """

    text_field = "text"
    label_field = "label"
    labels: tuple[str, ...] = ("text",)
    descriptions: tuple[tuple[str, ...], ...] = ()
    evaluation: EvaluationStatus | None = EvaluationStatus.PUBLIC

    def __init__(self, corpus: TableCorpus, settings: TableCorpusSettings) -> None:
        self._corpus = corpus
        self._settings = settings
        self.name = settings.name
        self.metric = corpus.metric

    @property
    def traits(self) -> Traits:
        """What sets the task apart."""
        one_record = self._settings.references is References.ONE_RECORD
        return Traits(
            kind=TaskKind.TEXT,
            is_table=True,
            owner_field=OWNER_FIELD if one_record else None,
            truncate=self._settings.truncate,
            notes=(
                note_on(self._settings.references),
                *((_CUT,) if self._settings.truncate else ()),
                *self._corpus.notes,
            ),
        )

    def problems(self) -> list[str]:
        """Return what is wrong with the place of the files, without reading any record."""
        try:
            for split in Split:
                self._file(split)
        except ConfigurationError as error:
            return list(error.messages)
        return []

    def default_model(self) -> str | None:
        """Return the Hub name of the model that the papers train."""
        return HUB_DECODER

    def load(self, split: Split) -> list[Row]:
        """Read a split, one row for every reference.

        Raises:
            ConfigurationError: If a table or a text is malformed.

        Privacy:
            Reads raw records; nothing is released, and messages never quote a record.
        """
        path = self._file(split)
        tables = self._corpus.tables(path, read_rows(path, self._corpus.columns))
        if split is Split.VALIDATION:
            tables = _spread(_scored(tables), self._settings.judged)
        else:
            _refuse_empty(path, tables)
        rows = [{"text": table, "label": text} for table, texts in tables for text in texts]
        owned = split is Split.TRAIN and self._settings.references is References.ONE_RECORD
        return owned_by_table(rows) if owned else rows

    def _file(self, split: Split) -> Path:
        folder = self._folder()
        if split is Split.VALIDATION:
            return table_in(folder, self._settings.judged_on.value)
        for stem in self._corpus.train[:-1]:
            try:
                return table_in(folder, stem)
            except ConfigurationError:
                continue
        return table_in(folder, self._corpus.train[-1])

    def _folder(self) -> Path:
        if self._settings.path is not None:
            return Path(self._settings.path)
        assets = os.environ.get(_ASSETS_VARIABLE)
        if not assets:
            raise ConfigurationError(
                f"Expected task.path or {_ASSETS_VARIABLE} to say where {self.name} is. Nothing is "
                "fetched. Set task.path to a folder with train.parquet and validation.parquet, or "
                "try task=embedded_table_to_text."
            )
        return Path(assets) / "data" / "nlg" / self._corpus.folder


def _e2e_tables(path: Path, rows: Sequence[Row]) -> list[_TABLE]:
    tables: list[_TABLE] = []
    problems = []
    for number, row in enumerate(rows, 1):
        text = row["meaning_representation"]
        slots = _SLOT.findall(text) if isinstance(text, str) else []
        if not slots or ", ".join(f"{name}[{value}]" for name, value in slots) != text:
            rule = "list slots as name[value]"
            problems.append(row_problem(path, number, "meaning_representation", rule))
        table = linearise([(_SLOT_NAMES.get(name, name), value) for name, value in slots])
        tables.append((table, [row["human_reference"]]))
    _refuse(problems)
    return tables


def _triple_tables(path: Path, rows: Sequence[Row], *, lower: bool) -> list[_TABLE]:
    tables: list[_TABLE] = []
    problems = []
    for number, row in enumerate(rows, 1):
        triples = row["tripleset"]
        if not triples or any(len(triple) != 3 for triple in triples):
            problems.append(row_problem(path, number, "tripleset", "list triples"))
            continue
        table = linearise([(s, r.lower() if lower else r, o) for s, r, o in triples])
        tables.append((table, [reference["text"] for reference in row["annotations"]]))
    _refuse(problems)
    return tables


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(first_problems(problems))


def _refuse_empty(path: Path, tables: Sequence[_TABLE]) -> None:
    _refuse(
        [
            row_problem(path, number, "reference", "hold text that is not empty")
            for number, (_, texts) in enumerate(tables, 1)
            if not texts or not all(map(_says_something, texts))
        ]
    )


def _scored(tables: Sequence[_TABLE]) -> list[_TABLE]:
    """Put the references of equal tables together, in order of first appearance.

    Empty ones, of which the test file of DART has one, score nothing and are left out.
    """
    found: dict[str, list[str]] = {}
    for table, texts in tables:
        found.setdefault(table, []).extend(filter(_says_something, texts))
    return [(table, texts) for table, texts in found.items() if texts]


def _says_something(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _spread(tables: list[_TABLE], most: int | None) -> list[_TABLE]:
    """Return at most so many tables, evenly spaced."""
    return tables if most is None or not tables else tables[:: -(-len(tables) // most)]


_TRIPLE_COLUMNS = ("tripleset", "annotations")
_CORPORA = {
    "dart": TableCorpus(
        folder="dart",
        train=("train", "train_part_webnlg_e2e"),
        columns=_TRIPLE_COLUMNS,
        tables=partial(_triple_tables, lower=True),
        metric="dart",
    ),
    "e2e": TableCorpus(
        folder="e2e",
        train=("train",),
        columns=("meaning_representation", "human_reference"),
        tables=_e2e_tables,
        metric="e2e",
    ),
    "webnlg": TableCorpus(
        folder="webnlg_2017",
        train=("train",),
        columns=_TRIPLE_COLUMNS,
        tables=partial(_triple_tables, lower=False),
        metric="dart",
    ),
}

for _name, _corpus in _CORPORA.items():
    register(_name, TableCorpusSettings, partial(TableCorpusTask, _corpus))
