"""Too few held-out records for a metric are refused before a model is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpft.recipes import cli
from dpft.recipes.metrics.registry import fewest_records

NOWHERE = "model=nobody/nothing"  # loading it would fail with another message


def e2e(folder: Path, names: list[str]) -> list[str]:
    rows = [{"meaning_representation": f"name[{n}]", "human_reference": n} for n in names]
    return written(folder, "e2e", {"train": rows, "validation": rows})


def written(folder: Path, task: str, files: dict[str, list[dict[str, Any]]]) -> list[str]:
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    given = [f"task={task}", NOWHERE, f"hydra.run.dir={folder}/run", "privacy.delta=1e-3"]
    given += ["privacy.expected_batch_size=1"]
    if task in {"regression", "table_to_text"}:
        places = [f"task.train={folder}/train.jsonl", f"task.validation={folder}/validation.jsonl"]
        return [*given, *places, "privacy.evaluation=public"]
    return [*given, f"task.path={folder}", "privacy.evaluation=public", "privacy.dataset_id=own"]


def refused(given: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["train", *given]) == 2
    assert not (folder / "run").exists()
    return capsys.readouterr().err


def test_one_table_is_refused_by_cider_whoever_made_it_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(e2e(tmp_path, ["Aromi", "Aromi"]), tmp_path, capsys)
    assert "Expected task.validation to hold 2 different tables or more with metric=e2e" in said
    assert "set privacy.evaluation=none" in said
    assert "Aromi" not in said
    said = refused([*e2e(tmp_path, ["Aromi", "Zizzi"]), "task.judged=1"], tmp_path, capsys)
    assert "cut to task.judged=1" in said
    assert "raise task.judged" in said


def test_two_tables_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(e2e(tmp_path, ["Aromi", "Zizzi"]), tmp_path, capsys)
    assert "different tables" not in said
    assert "nobody/nothing" in said


def test_without_a_metric_one_table_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*e2e(tmp_path, ["Aromi"]), "privacy.evaluation=none"]
    assert "different tables" not in refused(given, tmp_path, capsys)


def test_numbers_that_are_all_the_same_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": "a", "target": 4.25}, {"text": "b", "target": 4.25}]
    said = refused(
        written(tmp_path, "regression", {"train": rows, "validation": rows}), tmp_path, capsys
    )
    assert "file=validation.jsonl to hold two different numbers" in said
    assert "4.25" not in said


def test_tables_without_any_text_are_no_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"tripleset": [["a", "b", "c"]], "annotations": [{"text": "A."}]}
    files = {"train": [row], "validation": [row | {"annotations": [{"text": " "}]}]}
    assert "to hold at least one record" in refused(
        written(tmp_path, "dart", files), tmp_path, capsys
    )


def test_metrics_say_how_many_records_they_need() -> None:
    assert {name: fewest_records(name) for name in ("bleu", "cider", "dart", "e2e")} == {
        "bleu": 1,
        "cider": 2,
        "dart": 1,
        "e2e": 2,
    }
