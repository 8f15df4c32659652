"""The editing experiments: their order, what survives an interruption, and what the tables say."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import editing
from benchmarks.editing import Bench, main
from benchmarks.editing_cells import Cell, Experiment, cells, chosen_rate, schedule_of, trials
from benchmarks.editing_tables import tables
from dpft.errors import BrokenGuaranteeError
from dpft.recipes.editing.objectives import Objective
from dpft.recipes.editing.runs import Place, Schedule, TrainingRun
from dpft.recipes.tasks.corpora import CORPORA, CorpusName

FIRST = next(iter(cells()))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose runs are pretended, and whose cells measure nothing."""

    def train(place: Place, run: TrainingRun, schedule: Schedule) -> dict[str, Any]:
        place.folder(run).mkdir(parents=True)
        return {"epsilon_spent": run.epsilon, "steps": schedule.steps}

    def is_finished(place: Place, run: TrainingRun) -> bool:
        return place.folder(run).exists()

    monkeypatch.setattr(editing, "train", train)
    monkeypatch.setattr(editing, "finished", is_finished)
    rates = {"private": 2e-2, "not": 1e-2}
    monkeypatch.setattr(
        editing, "chosen_rate", lambda _, private: rates["private" if private else "not"]
    )
    measures = {kind: lambda _bench, _cell: {"measured": 1} for kind in Experiment}
    monkeypatch.setattr(editing, "_MEASURES", measures)
    return Bench(Place(runs=tmp_path / "runs", model="embedded"), tmp_path / "editing.json")


def test_every_cell_is_done_once_and_the_most_telling_first() -> None:
    every = list(cells())
    assert len({cell.name for cell in every}) == len(every)
    assert [cell.epsilon for cell in every[:2]] == [None, 8.0]
    for kind in (Experiment.ADDITION, Experiment.FORGETTING, Experiment.ANALOGY):
        mine = [cell for cell in every if cell.experiment is kind]
        assert {(c.epsilon, c.repetition) for c in mine} == {
            (epsilon, repetition) for epsilon in (None, 8.0, 3.0) for repetition in range(3)
        }


def test_forgetting_and_addition_share_their_runs() -> None:
    every = list(cells())
    added = {run.name for c in every if c.experiment is Experiment.ADDITION for run in c.runs()}
    forgotten = [c.runs() for c in every if c.experiment is Experiment.FORGETTING]
    assert all(runs[0].name in added for runs in forgotten)
    assert all(runs[1].objective is Objective.ASCENT for runs in forgotten)


def test_the_vectors_of_a_cell_have_first_factors_of_one_seed() -> None:
    assert all(len({run.repetition for run in cell.runs()}) == 1 for cell in cells())


def test_runs_under_noise_take_fewer_steps_of_more_records() -> None:
    private, plain = (
        schedule_of(TrainingRun(corpus=CorpusName.TREC, epsilon=epsilon), 1e-2)
        for epsilon in (8.0, None)
    )
    assert private.steps < plain.steps
    assert private.batch > plain.batch


def trial(rate: float, accuracy: float, *, private: bool) -> dict[str, Any]:
    return {"learning_rate": rate, "accuracy": accuracy, "private": private}


def test_the_learning_rate_is_the_best_on_average_of_its_kind() -> None:
    found = [
        trial(1e-2, 0.9, private=True),
        trial(1e-2, 0.5, private=True),
        trial(2e-2, 0.8, private=True),
        trial(2e-2, 0.7, private=True),
        trial(5e-3, 0.99, private=False),
    ]
    assert chosen_rate(found, private=True) == 2e-2
    assert chosen_rate(found, private=False) == 5e-3


def test_trials_are_runs_of_the_first_repetition_with_names_of_their_own() -> None:
    every = list(trials())
    assert len({each.name for each in every}) == len(every) == 12
    assert {each.run.repetition for each in every} == {0}


def test_what_is_done_is_kept_and_not_done_again(bench: Bench, tmp_path: Path) -> None:
    bench.do(FIRST)
    again = Bench(Place(runs=tmp_path / "runs", model="embedded"), tmp_path / "editing.json")
    assert [cell.name for cell in again.missing()] == [c.name for c in list(cells())[1:]]
    assert {run["name"] for run in again.found["runs"]} == {run.name for run in FIRST.runs()}


def test_an_interrupted_cell_keeps_the_runs_that_it_finished(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(editing, "_MEASURES", {FIRST.experiment: interrupted})
        with pytest.raises(KeyboardInterrupt):
            bench.do(FIRST)
    found = json.loads((tmp_path / "editing.json").read_text(encoding="utf-8"))
    assert len(found["runs"]) == 4
    assert found["cells"] == []
    assert bench.untrained(FIRST) == []


def test_lost_run_folders_are_trained_again_for_the_cells_that_are_left(bench: Bench) -> None:
    bench.do(FIRST)
    needs = Cell(
        experiment=Experiment.FORGETTING, epsilon=None, repetition=0, target=CorpusName.TREC
    )
    assert [run.objective for run in bench.untrained(needs)] == [Objective.ASCENT]


def test_a_cell_that_the_library_refuses_is_said_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> dict[str, Any]:
        raise BrokenGuaranteeError("Expected independent noise.")

    monkeypatch.setattr(editing, "_MEASURES", dict.fromkeys(Experiment, refused))
    bench.do(FIRST)
    text = tables(bench.found | {"runs": []})
    assert "Expected independent noise." in text
    assert FIRST not in bench.missing()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every corpus with a few made-up records for each label."""
    files: dict[str, list[dict[str, object]]] = {}
    for corpus in CORPORA.values():
        for stem in (corpus.train, corpus.test):
            for number in range(240):
                label = (number + number // 10) % len(corpus.labels)  # of rows kept back, too
                text = f"{stem} {corpus.labels[label]} message {number} please"
                domain = (corpus.domains or ("any",))[0]
                row = {corpus.text_column: text, "label": label, "domain": domain}
                files.setdefault(stem, []).append(row)
    for stem, rows in files.items():
        path = tmp_path / f"{stem}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_every_experiment_runs_from_records_to_tables(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Schedule(batch=8, steps=2, learning_rate=1e-2)
    monkeypatch.setattr(editing, "schedule_of", lambda _run, _rate: short)
    monkeypatch.setattr("benchmarks.editing_cells.schedule_of", lambda _run, _rate: short)
    place = Place(runs=data / "runs", model="embedded", data=str(data))
    bench = Bench(place, data / "editing.json")
    for attempt in bench.untried()[-1:]:
        bench.try_rate(attempt)
    done = [
        next(cell for cell in cells() if cell.experiment is kind and cell.epsilon is None)
        for kind in Experiment
    ]
    for each in done:
        bench.do(each)
    found = Bench(place, data / "editing.json").found
    assert [entry["name"] for entry in found["cells"]] == [each.name for each in done]
    assert not any("refused" in entry for entry in found["cells"])
    text = tables(found)
    for line in ("| infinite | **mean** |", "| infinite | peft linear |", "gradient ascent"):
        assert line in text
    assert (data / "runs" / "dpft-ledger.sqlite").exists()
    assert not list((data / "runs" / "trials").rglob("*.sqlite"))


def cell(repetition: int, reached: float) -> dict[str, Any]:
    owed = {"epsilon": 11.5, "binding": 4, "largest": 8.0}
    return {
        "experiment": "addition",
        "epsilon": 8.0,
        "repetition": repetition,
        "records": {"trec": 500},
        "zero_shot": {"trec": 0.5},
        "own": {"trec": 0.8},
        "sum": {"trec": reached},
        "normalised": reached / 0.8,
        "coefficient": 0.7,
        "others": {"peft linear": {"normalised": 0.5}},
        "certificate": owed,
    }


def edited(edit: dict[str, Any]) -> dict[str, Any]:
    owed = {"epsilon": None, "binding": 1, "largest": None}
    about = {"experiment": "forgetting", "epsilon": None, "target": "trec"}
    return {**about, "edits": {"negation": edit}, "certificate": owed}


def test_tables_tell_test_records_intervals_and_seeds() -> None:
    text = tables({"trials": [], "runs": [], "cells": [cell(0, 0.76), cell(1, 0.80)]})
    [row] = [line for line in text.splitlines() if line.startswith("| 8 | trec |")]
    assert row == (
        "| 8 | trec | 500 | 0.500 ± 0.000 | 0.800 ± 0.000 | 0.780 ± 0.254 | 0.975 ± 0.318 | 2 |"
    )
    assert "| 8 | 11.5 | 4 | 8 |" in text


def test_tables_show_the_distance_from_chance_beside_the_accuracy() -> None:
    forgotten = {
        "coefficient": 0.7,
        "chance": 1 / 6,
        "records": 500,
        "control_records": 2822,
        "target_before": 0.58,
        "target_after": 0.12,
        "from_chance": 0.0467,
        "control": 0.97,
    }
    text = tables({"trials": [], "runs": [], "cells": [edited(forgotten)]})
    assert "| infinite | trec (0.167) | negation | 500 | 0.580 | 0.120 | 0.047 |" in text


def test_tables_are_printed_without_running_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "editing.json"
    results.write_text(json.dumps({"trials": [], "runs": [], "cells": [cell(0, 0.8)]}))
    where = ["--runs", str(tmp_path / "runs"), "--results", str(results), "--model", "embedded"]
    assert main([*where, "--tables"]) == 0
    assert "| 8 | trec |" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
