"""The tables of the recipes: which cells there are, what they are given, what is kept and said."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import recipe_results, recipe_results_data
from benchmarks.recipe_results import Bench, main
from benchmarks.recipe_results_cells import (
    ADAPTERS,
    DECODER_TASKS,
    ENCODER_TASKS,
    WORKS,
    Cell,
    Choice,
    Head,
    Place,
    cells,
    chosen,
    head_of,
    overrides_of,
    rate_of,
    schedule_of,
    trial_overrides,
    trials,
)
from benchmarks.recipe_results_data import constant_scores, text_scores, write_parts
from benchmarks.recipe_results_tables import tables
from benchmarks.recipe_results_times import minutes_of, split_by_hours
from dpft.privacy import PrivacyMode
from dpft.recipes.config.composition import compose_settings

_CHOICE = Choice(head=Head.FROZEN, private_rate=1e-2, plain_rate=1e-3)
_PLACE = Place(Path("assets"), Path("records"), "decoder")
_REACHED = {
    "accuracy": 0.7,
    "f1": 0.8,
    "pearson": 0.1,
    "spearmanr": 0.1,
    "matthews_correlation": 0.0,
    "bleu": 30.0,
    "rouge_l": 0.5,
    "nist": 4.0,
    "epsilon": 7.99,
    "delta": 1e-5,
    "noise_multiplier": 0.5,
    "expected_batch_size": 100,
    "steps": 30,
    "updates": 30,
    "cpu_seconds": 60,
}
_NOTHING: dict[str, Any] = {"cells": []}


def _all_trials(scores: Sequence[float] = ()) -> list[dict[str, Any]]:
    names = [trial.name for trial in trials()]
    return [{"name": name, "score": 0.5} for name in names] + [
        {"name": name, "score": score} for name, score in zip(names, scores, strict=False)
    ]


def test_every_cell_occurs_once_and_every_task_is_there() -> None:
    names = [cell.name for cell in cells()]
    assert len(set(names)) == len(names)
    assert {cell.task for cell in cells()} == set(WORKS) == {*ENCODER_TASKS, *DECODER_TASKS}


@pytest.mark.parametrize("task", [*ENCODER_TASKS, *DECODER_TASKS])
def test_the_command_line_takes_the_cells_of_a_task(task: str) -> None:
    for cell in cells():
        adapters = set(ADAPTERS) if task == "rte" else {"lora"}
        if cell.task == task and cell.epsilon in {8.0, None} and cell.adapter in adapters:
            settings = compose_settings(overrides_of(cell, _CHOICE, _PLACE))
            assert settings.privacy.epsilon == cell.epsilon
            plain = settings.privacy.mode is PrivacyMode.NOT_PRIVATE
            assert plain is (cell.epsilon is None)
            assert settings.privacy.steps == schedule_of(cell)[1]
            assert getattr(settings.task, "judged_on", "validation") == "validation"


def test_the_command_line_takes_every_trial() -> None:
    for trial in trials():
        settings = compose_settings(trial_overrides(trial, _PLACE))
        assert (settings.privacy.noise_multiplier is not None) is trial.private
        assert "trials" in str(getattr(settings.task, "path", None))


def test_less_epsilon_means_fewer_steps_of_the_same_work() -> None:
    eight, one = (schedule_of(Cell(task="qqp", epsilon=epsilon)) for epsilon in (8.0, 1.0))
    assert one[0] > eight[0]
    assert one[1] < eight[1]
    assert one[0] * one[1] == pytest.approx(eight[0] * eight[1], rel=0.01)


def test_a_learning_rate_is_scaled_by_the_root_of_the_ratio_of_steps() -> None:
    rate = rate_of(Cell(task="qqp", epsilon=8.0), _CHOICE)
    assert rate == pytest.approx(1e-2 * (16 / 30) ** 0.5, rel=0.01)
    doubled = rate_of(Cell(task="qqp", adapter="ffa_lora", epsilon=8.0), _CHOICE)
    assert doubled == pytest.approx(2 * rate, rel=0.05)


def test_nothing_is_chosen_before_the_last_trial_and_then_the_best() -> None:
    assert chosen("qqp", _all_trials()[:-1]) is None
    better = [0.5] * 7 + [0.9, 0.5, 0.5, 0.5, 0.6]  # the frozen head at 1e-2, the plain 4e-3
    assert chosen("qqp", _all_trials(better)) == Choice(
        head=Head.FROZEN, private_rate=1e-2, plain_rate=4e-3
    )


def test_the_head_of_a_number_is_never_frozen() -> None:
    assert head_of("stsb", _CHOICE) is Head.TRAINED
    assert head_of("mrpc", _CHOICE) is Head.FROZEN


def test_the_cells_that_fit_stay_within_the_hours_and_keep_their_order() -> None:
    every = list(cells())
    fit, left = split_by_hours(every, 2.0)
    assert fit + left == every
    assert sum(map(minutes_of, fit)) <= 120 < sum(map(minutes_of, [*fit, left[0]]))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for runs: the names of their folders."""
    ran: list[str] = []

    def run(_: Sequence[str], folder: Path) -> dict[str, Any]:
        ran.append(folder.name)
        return dict(_REACHED)

    def constant(*_: object) -> dict[str, float]:
        return {"records": 400, "accuracy": 0.69, "f1": 0.81}

    monkeypatch.setattr(recipe_results, "run_or_resume", run)
    monkeypatch.setattr(recipe_results, "write_parts", lambda _: None)
    monkeypatch.setattr(recipe_results, "text_scores", lambda *_: {"tables": 3})
    monkeypatch.setattr(recipe_results, "constant_scores", constant)
    return ran


def _folder_of_a_model(path: Path) -> str:
    path.mkdir()
    (path / "config.json").write_text("{}", encoding="utf-8")
    return str(path)


def test_trials_come_first_and_a_second_call_goes_on(tmp_path: Path, commands: list[str]) -> None:
    decoder = _folder_of_a_model(tmp_path / "decoder")
    flags = ["--runs", str(tmp_path), "--results", str(tmp_path / "r.json"), "--cells", "1"]
    flags += ["--decoder", decoder]
    assert main(flags) == 0
    assert commands == [*(trial.name for trial in trials()), "e2e-lora-untrained"]
    assert main(flags) == 0
    assert commands[-1] == "e2e-lora-eps_8.0"
    assert len(commands) == len(list(trials())) + 2


def test_without_a_decoder_its_cells_wait(tmp_path: Path, commands: list[str]) -> None:
    flags = ["--runs", str(tmp_path), "--results", str(tmp_path / "r.json"), "--cells", "1"]
    assert main([*flags, "--decoder", str(tmp_path / "absent" / "model")]) == 0
    assert not [name for name in commands if "e2e" in name]
    assert commands[-1] == "qqp-lora-eps_8.0"


def test_what_was_done_is_kept_when_a_run_fails(
    tmp_path: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "r.json"
    bench = Bench(dataclasses.replace(_PLACE, records=tmp_path), tmp_path, results)
    bench.found["trials"] = _all_trials()
    bench.do(Cell(task="mrpc", epsilon=8.0))

    def fail(*_: object) -> dict[str, Any]:
        raise RuntimeError

    monkeypatch.setattr(recipe_results, "run_or_resume", fail)
    with pytest.raises(RuntimeError):
        bench.do(Cell(task="mrpc", epsilon=3.0))
    kept = json.loads(results.read_text(encoding="utf-8"))
    assert [cell["name"] for cell in kept["cells"]] == ["mrpc-lora-eps_8.0"]
    assert commands == ["mrpc-lora-eps_8.0"]


def test_a_result_near_the_constant_is_marked_and_a_better_one_is_not(
    tmp_path: Path, commands: list[str]
) -> None:
    bench = Bench(_PLACE, tmp_path, tmp_path / "r.json")
    bench.found["trials"] = _all_trials()
    bench.do(Cell(task="mrpc", epsilon=8.0))
    bench.found["cells"].append(
        {**bench.found["cells"][0], "target_epsilon": None, "accuracy": 0.8, "epsilon": None}
    )
    bench.do(Cell(task="e2e", epsilon=None, untrained=True))
    shown = tables(bench.found, _NOTHING, _NOTHING)
    row = "| mrpc | lora | 0.800 / 0.800 | 0.700 / 0.800 * | - | - | 0.690 / 0.810 |"
    assert row in shown
    assert "| e2e | not trained | 30.00 | 50.00 | 4.00 | 3 |" in shown
    assert len(commands) == 2


def test_numbers_of_sst2_are_taken_from_its_own_benchmarks() -> None:
    machine = {"versions": {}, "device": "cpu", "processor": "p", "cores": 1, "threads": 1}
    nothing = {"machine": machine, "trials": []}
    sst2 = {"cells": [{"target_epsilon": 3.0, "accuracy": 0.85}]}
    adapters = {
        "cells": [{"adapter": "lora", "accuracy": 0.1}, {"adapter": "ia3", "accuracy": 0.8}]
    }
    shown = tables({**nothing, "constants": {}, "cells": []}, sst2, adapters)
    assert "| sst2 | lora | - | - | 0.850 | - | 0.509 |" in shown
    assert "| sst2 | ia3 | - | 0.800 | - | - | 0.509 |" in shown


def _table_of_pairs(path: Path, labels: Sequence[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [f"text {number}" for number in range(len(labels))]
    columns = {"question1": texts, "question2": texts, "label": list(labels)}
    names = {"sentence1": texts, "sentence2": texts}
    pq.write_table(pa.table({**columns, **names}), path)


def test_the_constant_is_the_commonest_training_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPFT_ASSETS", str(tmp_path))
    folder = tmp_path / "data" / "glue" / "mrpc"
    _table_of_pairs(folder / "train.parquet", [0, 0, 1])
    _table_of_pairs(folder / "validation.parquet", [1, 1, 1, 0])
    place = Place(tmp_path, tmp_path / "records")
    assert constant_scores("mrpc", place) == {"records": 4, "accuracy": 0.25, "f1": 0.0}


def test_trials_share_no_record_with_what_they_are_judged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_results_data, "_HELD_OUT_PAIRS", 4)
    monkeypatch.setattr(recipe_results_data, "_JUDGED_PAIRS", 3)
    glue, nlg = tmp_path / "data" / "glue" / "qqp", tmp_path / "data" / "nlg" / "e2e"
    _table_of_pairs(glue / "train_part.parquet", [0, 1] * 5)
    _table_of_pairs(glue / "validation.parquet", [0, 1] * 3)
    nlg.mkdir(parents=True)
    names = [f"name[{number // 2}]" for number in range(400)]
    e2e = pa.table({"meaning_representation": names, "human_reference": names})
    pq.write_table(e2e, nlg / "train.parquet")
    place = Place(tmp_path, tmp_path / "records")
    write_parts(place)
    for folder, stem, column in (
        ("qqp_trials", "train_part", "question1"),
        ("e2e_trials", "train", "meaning_representation"),
    ):
        trained, judged = (
            set(pq.read_table(place.records / folder / f"{name}.parquet")[column].to_pylist())
            for name in (stem, "validation")
        )
        assert trained
        assert judged
        assert not trained & judged
    assert len(pq.read_table(place.records / "qqp" / "validation.parquet")) == 3


def test_figures_of_texts_that_a_run_of_dart_lacks_are_added(tmp_path: Path) -> None:
    text = "Blue Spice is a cheap coffee shop in the city centre ."
    line = json.dumps({"input": {}, "written": text, "references": [text]})
    (tmp_path / "generations.jsonl").write_text(line + "\n", encoding="utf-8")
    scores = text_scores("dart", tmp_path)
    assert scores["tables"] == 1
    assert scores["rouge_l"] == pytest.approx(1.0)
    assert scores["nist"] > 0
    assert text_scores("e2e", tmp_path) == {"tables": 1}
    assert text_scores("cola", tmp_path) == {}
