"""Tiny corpora and a few short runs with the encoder of the package."""

import json
import warnings
from pathlib import Path

import pytest

from dpft.recipes.editing.judging import Judges
from dpft.recipes.editing.objectives import Objective
from dpft.recipes.editing.runs import Place, Schedule, TrainingRun, train
from dpft.recipes.tasks.corpora import CORPORA, CorpusName

_ROWS = 240


def write_corpora(folder: Path) -> None:
    """Write every corpus with a few made-up records for each label."""
    files: dict[str, list[dict[str, object]]] = {}
    for corpus in CORPORA.values():
        for part, stem in (("train", corpus.train), ("test", corpus.test)):
            rows = files.setdefault(stem, [])
            for number in range(_ROWS):
                label = (number + number // 10) % len(corpus.labels)  # of rows kept back, too
                row: dict[str, object] = {"label": label}
                row[corpus.text_column] = f"{part} {corpus.labels[label]} message {number} please"
                row["domain"] = (corpus.domains or ("any",))[0]
                rows.append(row)
    for stem, rows in files.items():
        path = folder / f"{stem}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


_RUNS = {
    "trec": TrainingRun(corpus=CorpusName.TREC, epsilon=8.0),
    "sst2": TrainingRun(corpus=CorpusName.SST2, epsilon=8.0),
    "texts": TrainingRun(corpus=CorpusName.GOODS_TEXTS, objective=Objective.WORDS, epsilon=8.0),
}
_SHORT = Schedule(batch=8, steps=2, learning_rate=1e-2)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with corpora, and with three finished runs."""
    folder = tmp_path_factory.mktemp("editing")
    write_corpora(folder / "data")
    made = Place(runs=folder / "runs", model="embedded", data=str(folder / "data"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        for run in _RUNS.values():
            train(made, run, _SHORT)
    return made


@pytest.fixture
def runs() -> dict[str, TrainingRun]:
    """The finished runs."""
    return dict(_RUNS)


@pytest.fixture
def short() -> Schedule:
    """Two steps."""
    return _SHORT


@pytest.fixture(scope="session")
def judges(place: Place) -> Judges:
    """Judges of the tiny corpora."""
    return Judges(place)
