"""E2E, DART and WebNLG: public benchmarks of tables and texts that describe them."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.linearisation import linearise
from dpft.recipes.tasks.hub import HubPlace, hub_problems, hub_rows
from dpft.recipes.tasks.ownership import OWNER_FIELD
from dpft.recipes.tasks.published import status_of_copy
from dpft.recipes.tasks.references import References, note_on, owned_by_table
from dpft.recipes.tasks.tables import first_problems, is_text, read_rows, row_problem, table_in
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
_CONVERTED = "refs/convert/parquet"  # both repositories hold a script, which is not run
_EMBEDDED = "embedded_table_to_text"
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
        table: Column of the table.
        texts: Column of its references.
        read_table: Turns the value of the one into a line of text, None if it is malformed.
        read_texts: Turns the value of the other into texts, None if it is malformed.
        rules: What is asked of either column, for messages.
        metric: Name of its metric.
        hub: Where it stands on the Hub, None if nowhere in a form that is read.
        notes: Public sentences on the data.

    Privacy:
        Nothing, no data touched.
    """

    folder: str
    train: tuple[str, ...]
    table: str
    texts: str
    read_table: Callable[[Any], str | None]
    read_texts: Callable[[Any], list[str] | None]
    rules: tuple[str, str]
    metric: str
    hub: HubPlace | None = None
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, str]:
        """Columns of the files."""
        return self.table, self.texts

    def tables(self, path: Path, rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
        """Return tables as text with their references.

        Args:
            path: File the rows came from, for messages.
            rows: The rows.

        Raises:
            ConfigurationError: If a table or a text is malformed; the first few rows are named.

        Privacy:
            Keeps raw records. Messages name rows and columns, never content
            (`test_malformed_files_give_our_own_errors_and_never_quote`).
        """
        tables: list[_TABLE] = []
        problems = []
        for number, row in enumerate(rows, 1):
            read = self.read_table(row[self.table]), self.read_texts(row[self.texts])
            wrong = [place for place, value in enumerate(read) if value is None]
            problems += [
                row_problem(path, number, self.columns[place], self.rules[place]) for place in wrong
            ]
            tables.append((read[0] or "", read[1] or []))
        _refuse(problems)
        return tables


class TableCorpusTask:
    """Tables as one line of text, and texts that describe them.

    Args:
        corpus: The benchmark.
        settings: Where it is, and what a record of it is.

    Privacy:
        The benchmarks are public, hence metrics cost nothing; other records in their format, in a
        folder of one's own, are not, until somebody says so (`dpft.recipes.tasks.published`). The
        training rows are treated as private. What a record is follows `task.references`
        (`tests/recipes/test_table_corpora.py`).
    """

    text_field = "text"
    label_field = "label"
    labels: tuple[str, ...] = ("text",)
    descriptions: tuple[tuple[str, ...], ...] = ()

    def __init__(self, corpus: TableCorpus, settings: TableCorpusSettings) -> None:
        self._corpus = corpus
        self._settings = settings
        self.name = settings.name
        self.metric = corpus.metric
        self.judged = settings.judged

    @cached_property
    def evaluation(self) -> EvaluationStatus | None:
        """What a metric costs: nothing on published records, unknown on others in their format."""
        path = self._settings.path
        file = None if path is None else self._file(Split.VALIDATION)
        return status_of_copy(path, file, self._corpus.columns)

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
            if self._hub is not None:
                return hub_problems(self._hub, self.name)
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
        path, read = self._read(split)
        tables = self._corpus.tables(path, read)
        if split is Split.VALIDATION:
            tables = _spread(_scored(tables), self._settings.judged)
        else:
            _refuse_empty(path, self._corpus.texts, tables)
        rows = [{"text": table, "label": text} for table, texts in tables for text in texts]
        owned = split is Split.TRAIN and self._settings.references is References.ONE_RECORD
        return owned_by_table(rows) if owned else rows

    @property
    def _hub(self) -> HubPlace | None:
        """Where to read on the Hub; None where a folder is given."""
        given = self._settings.path or os.environ.get(_ASSETS_VARIABLE)
        return None if given else self._corpus.hub

    def _read(self, split: Split) -> tuple[Path, list[Row]]:
        """Return the rows of a split, and what they are called in messages."""
        if self._hub is not None:
            judged = self._settings.judged_on.value
            stem = judged if split is Split.VALIDATION else split.value
            return Path(self._hub.repository), hub_rows(self._hub, stem, self.name)
        path = self._file(split)
        return path, read_rows(path, self._corpus.columns)

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
                f"try task={_EMBEDDED}."
            )
        return Path(assets) / "data" / "nlg" / self._corpus.folder


def _e2e_table(value: Any) -> str | None:
    """Return a meaning representation as one line, None if it is none."""
    slots = _SLOT.findall(value) if is_text(value) else []
    if not slots or ", ".join(f"{name}[{held}]" for name, held in slots) != value:
        return None
    return linearise([(_SLOT_NAMES.get(name, name), held) for name, held in slots])


def _triple_table(value: Any, *, lower: bool) -> str | None:
    """Return a set of triples as one line, None if it is none."""
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(triple, list) and len(triple) == 3 for triple in value):
        return None
    if not all(is_text(cell) for triple in value for cell in triple):
        return None
    return linearise([(s, r.lower() if lower else r, o) for s, r, o in value])


def _one_text(value: Any) -> list[str] | None:
    return [value] if is_text(value) else None


def _annotated_texts(value: Any) -> list[str] | None:
    """Return the texts of annotations, None if they are none; an empty text is one.

    The Hub writes a list of annotations as one, of lists.
    """
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value = [{"text": text} for text in value["text"]]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return None
    texts = [each.get("text") for each in value]
    return texts if all(map(is_text, texts)) else None


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(first_problems(problems))


def _refuse_empty(path: Path, column: str, tables: Sequence[_TABLE]) -> None:
    _refuse(
        [
            row_problem(path, number, column, "hold text that is not empty")
            for number, (_, texts) in enumerate(tables, 1)
            if not texts or not all(map(str.strip, texts))
        ]
    )


def _scored(tables: Sequence[_TABLE]) -> list[_TABLE]:
    """Put the references of equal tables together, in order of first appearance.

    Empty ones, of which the test file of DART has one, score nothing and are left out.
    """
    found: dict[str, list[str]] = {}
    for table, texts in tables:
        found.setdefault(table, []).extend(text for text in texts if text.strip())
    return [(table, texts) for table, texts in found.items() if texts]


def _spread(tables: list[_TABLE], most: int | None) -> list[_TABLE]:
    """Return at most so many tables, evenly spaced."""
    return tables if most is None or not tables else tables[:: -(-len(tables) // most)]


_OF_TRIPLES: dict[str, Any] = {
    "table": "tripleset",
    "texts": "annotations",
    "read_texts": _annotated_texts,
    "rules": ("list triples of texts", "list annotations with a text each"),
    "metric": "dart",
}
_CORPORA = {
    "dart": TableCorpus(
        folder="dart",
        train=("train", "train_part_webnlg_e2e"),
        read_table=partial(_triple_table, lower=True),
        hub=HubPlace("Yale-LILY/dart", revision=_CONVERTED, instead=_EMBEDDED),
        **_OF_TRIPLES,
    ),
    "e2e": TableCorpus(
        folder="e2e",
        train=("train",),
        table="meaning_representation",
        texts="human_reference",
        read_table=_e2e_table,
        read_texts=_one_text,
        hub=HubPlace("tuetschek/e2e_nlg", revision=_CONVERTED, instead=_EMBEDDED),
        rules=("list slots as name[value]", "hold text in Unicode"),
        metric="e2e",
    ),
    "webnlg": TableCorpus(
        folder="webnlg_2017",
        train=("train",),
        read_table=partial(_triple_table, lower=False),
        **_OF_TRIPLES,
    ),
}

for _name, _corpus in _CORPORA.items():
    register(_name, TableCorpusSettings, partial(TableCorpusTask, _corpus))
