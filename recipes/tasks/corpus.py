"""Classification of the texts of a public corpus, with a part of the training file kept back."""

import os
import re
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.tasks.corpora import CORPORA, CorpusName
from dpft.recipes.tasks.published import status_of_copy
from dpft.recipes.tasks.sst2 import HUB_MODEL
from dpft.recipes.tasks.tables import labelled_rows, read_rows, table_in
from dpft.recipes.tasks.task import Row, Split, register

__all__ = ["CorpusSettings", "CorpusTask", "JudgedBy"]

_ASSETS_VARIABLE = "DPFT_ASSETS"
_KEPT_BACK = 10  # every tenth row of the training file is never trained on


class JudgedBy(str, Enum):
    """Which records the metrics are taken on: the `test` file, or the training rows `kept_back`."""

    KEPT_BACK = "kept_back"
    TEST = "test"


@validated
class CorpusSettings:
    """Which corpus, and what it is judged by.

    Args:
        corpus: The corpus.
        judged_by: Where held-out records come from. Rows kept back are for choosing settings and
            coefficients; they are not trained on in either case.
        judged: Most held-out records, evenly spaced in their file, >= 1.
        path: The data folder. Unset: `data` in the assets folder.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    corpus: CorpusName = CorpusName.TREC
    judged_by: JudgedBy = JudgedBy.TEST
    judged: Annotated[int, Field(ge=1)] = 1000
    path: str | None = None
    name: str = "corpus"


class CorpusTask:
    """Texts of a public corpus.

    Every tenth row of the training file is kept back, of one with several domains every tenth row
    of these. Rows without a word, and texts that also stand in the test file, are left out, each
    record for itself.

    Args:
        settings: Which corpus, and what it is judged by.

    Privacy:
        The corpora are public benchmarks, hence metrics cost nothing, as long as the records are
        the published ones (`dpft.recipes.tasks.published`); the training rows are treated as
        private. Which rows are kept back depends on their position in the published file
        alone: what stands in one row moves no other (`tests/recipes/test_corpus.py`).
    """

    name = "corpus"
    text_field = "text"
    label_field = "label"

    def __init__(self, settings: CorpusSettings) -> None:
        self._settings = settings
        self._corpus = CORPORA[settings.corpus]
        self.labels = self._corpus.labels
        self.descriptions = self._corpus.descriptions

    @cached_property
    def evaluation(self) -> EvaluationStatus | None:
        """What a metric costs: nothing on published records, unknown on others in their format."""
        by_test = self._settings.judged_by is JudgedBy.TEST
        stem = self._corpus.test if by_test else self._corpus.train
        file = None if self._settings.path is None else self._file(stem)
        columns = self._columns(labelled=by_test or self._corpus.is_labelled)
        return status_of_copy(self._settings.path, file, columns)

    def problems(self) -> list[str]:
        """Return what is wrong with the place of the files, without reading any record."""
        try:
            self._file(self._corpus.train)
            self._file(self._corpus.test)
        except ConfigurationError as error:
            return list(error.messages)
        return []

    def default_model(self) -> str | None:
        """Return the MiniLM encoder of the assets folder, else its Hub name."""
        assets = _assets()
        local = assets / "models" / "minilm-l6" if assets is not None else None
        return str(local) if local is not None and local.is_dir() else HUB_MODEL

    def load(self, split: Split) -> list[Row]:
        """Read a split.

        Privacy:
            Reads raw records; nothing is released.
        """
        if split is Split.VALIDATION and self._settings.judged_by is JudgedBy.TEST:
            judged = self._rows(self._corpus.test, labelled=True)
            return _spread(_said(judged), self._settings.judged)
        # numbered before any row is left out
        rows = self._rows(self._corpus.train, labelled=self._corpus.is_labelled)
        if split is Split.VALIDATION:
            return _spread(_said(rows[::_KEPT_BACK]), self._settings.judged)
        seen = {_plain(row["text"]) for row in _said(self._rows(self._corpus.test, labelled=False))}
        kept = [row for number, row in enumerate(rows) if number % _KEPT_BACK]
        return [row for row in _said(kept) if _plain(row["text"]) not in seen]

    def _rows(self, stem: str, *, labelled: bool) -> list[Row | None]:
        """Return the rows of a file in their order, None for one without a word."""
        path, text, domains = self._file(stem), self._corpus.text_column, self._corpus.domains
        rows = read_rows(path, self._columns(labelled=labelled))
        if domains:
            rows = [row for row in rows if row["domain"] in domains]
        worded = [bool(_plain(str(row[text]))) for row in rows]
        said = [row for row, is_worded in zip(rows, worded, strict=True) if is_worded]
        if labelled:
            said = labelled_rows(path, said, text=text, label="label", index_of=self._index)
        else:
            said = [{"text": row[text], "label": 0} for row in said]
        following = iter(said)
        return [next(following) if is_worded else None for is_worded in worded]

    def _columns(self, *, labelled: bool) -> list[str]:
        domain = ["domain"] if self._corpus.domains else []
        return [self._corpus.text_column, *(["label"] if labelled else []), *domain]

    def _index(self, value: Any) -> int | None:
        known = isinstance(value, int) and 0 <= value < len(self.labels)
        return value if known else None

    def _file(self, stem: str) -> Path:
        place = Path(self._folder(), stem)
        return table_in(place.parent, place.name)

    def _folder(self) -> Path:
        if self._settings.path is not None:
            return Path(self._settings.path)
        assets = _assets()
        if assets is None:
            raise ConfigurationError(
                "Expected task.path or DPFT_ASSETS to say where the corpora are. Nothing is "
                "fetched. Set task.path to a folder with glue, text and textcls."
            )
        return assets / "data"


def _assets() -> Path | None:
    named = os.environ.get(_ASSETS_VARIABLE)
    return Path(named) if named else None


def _spread(rows: list[Row], most: int) -> list[Row]:
    """Return at most so many rows, evenly spaced."""
    return rows[:: -(-len(rows) // most)] if rows else rows


def _said(rows: list[Row | None]) -> list[Row]:
    return [row for row in rows if row is not None]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


register("corpus", CorpusSettings, CorpusTask)
