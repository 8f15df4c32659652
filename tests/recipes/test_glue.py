"""The tasks of GLUE: columns, labels, pairs, and what stands in for a missing training file."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.tasks import Split, build_task, settings_classes
from dpft.recipes.tasks.glue import Glue
from dpft.recipes.tasks.glue_tasks import GLUE
from dpft.recipes.tasks.traits import TaskKind, traits_of


def task_of(name: str, path: Path | None = None, **fields: Any) -> Glue:
    given = {} if path is None else {"path": str(path)}
    task = build_task(settings_classes()[name](**given, **fields))
    assert isinstance(task, Glue)
    return task


def rows_of(name: str, count: int = 3) -> list[dict[str, Any]]:
    task = GLUE[name]
    return [
        {column: f"{column} {i}" for column in task.texts}
        | {"label": float(i) if task.is_regression else i % len(task.labels), "idx": i}
        for i in range(count)
    ]


def write(folder: Path, stem: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{stem}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("name", sorted(GLUE))
def test_every_task_reads_its_own_columns(name: str, tmp_path: Path) -> None:
    for stem in ("train", *GLUE[name].development):
        write(tmp_path, stem, rows_of(name))
    task = task_of(name, tmp_path)
    assert task.problems() == []
    rows = task.load(Split.TRAIN)
    assert len(rows) == len(task.load(Split.VALIDATION)) == 3
    assert set(rows[0]) == {"text", "label"} | ({"pair"} if GLUE[name].second else set())
    assert task.evaluation is None, "nobody said that these are public"
    traits = traits_of(task)
    assert traits.figures == name
    assert (traits.kind is TaskKind.REGRESSION) == (name == "stsb")
    assert traits.notes == ()


def test_eight_tasks_and_sst2_make_nine() -> None:
    assert len(GLUE) == 8
    assert {*GLUE, "sst2"} <= settings_classes().keys()


@pytest.mark.parametrize("label", [-1, 3, 0.5, "x", None])
def test_hidden_and_foreign_labels_are_refused(label: object, tmp_path: Path) -> None:
    rows = rows_of("rte")
    rows[1]["label"] = label
    for stem in ("train", "validation"):
        write(tmp_path, stem, rows)
    with pytest.raises(ConfigurationError, match="row=2 column=label"):
        task_of("rte", tmp_path).load(Split.TRAIN)


@pytest.mark.parametrize("label", [-1, -0.1, 5.1, float("nan"), float("inf"), "x"])
def test_similarities_outside_their_range_are_refused(label: object, tmp_path: Path) -> None:
    rows = rows_of("stsb")
    write(tmp_path, "train", [rows[0], {**rows[1], "label": label}])
    with pytest.raises(ConfigurationError, match="row=2 column=label"):
        task_of("stsb", tmp_path).load(Split.TRAIN)


def test_similarities_reach_both_ends_of_their_range(tmp_path: Path) -> None:
    write(tmp_path, "train", [{**row, "label": 2.5 * row["idx"]} for row in rows_of("stsb")])
    assert [row["label"] for row in task_of("stsb", tmp_path).load(Split.TRAIN)] == [0.0, 2.5, 5.0]


@pytest.mark.parametrize("part", ["matched", "mismatched"])
def test_mnli_is_judged_by_the_part_that_was_asked_for(part: str, tmp_path: Path) -> None:
    write(tmp_path, "train", rows_of("mnli"))
    for size, stem in enumerate(GLUE["mnli"].development, 4):
        write(tmp_path, stem, rows_of("mnli", size))
    held_out = task_of("mnli", tmp_path, part=part).load(Split.VALIDATION)
    assert len(held_out) == {"matched": 4, "mismatched": 5}[part]


@pytest.mark.parametrize("name", ["mnli", "qnli"])
def test_without_a_training_file_development_records_are_split_and_that_is_stated(
    name: str, tmp_path: Path
) -> None:
    for stem in GLUE[name].development:
        write(tmp_path, stem, rows_of(name, 60))
    task = task_of(name, tmp_path)
    assert task.problems() == []
    train = {row["text"] for row in task.load(Split.TRAIN)}
    held_out = {row["text"] for row in task.load(Split.VALIDATION)}
    assert train
    assert held_out
    assert not train & held_out
    assert len(train | held_out) == 60
    (sentence,) = traits_of(task).notes
    assert "held out" in sentence
    assert "a second text may stand on both" in sentence


def test_development_records_are_split_as_stated(tmp_path: Path) -> None:
    write(tmp_path, "validation", rows_of("qnli", 60))
    held_out = [row["text"] for row in task_of("qnli", tmp_path).load(Split.VALIDATION)]
    for row in rows_of("qnli", 60):
        number = int.from_bytes(hashlib.sha256(row["question"].encode()).digest())
        assert (row["question"] in held_out) == (number % 5 == 0)


def test_a_part_of_the_training_file_is_used_and_stated(tmp_path: Path) -> None:
    write(tmp_path, "train_part", rows_of("qqp", 2))
    write(tmp_path, "validation", rows_of("qqp", 3))
    task = task_of("qqp", tmp_path)
    assert (len(task.load(Split.TRAIN)), len(task.load(Split.VALIDATION))) == (2, 3)
    assert "a part of the official one" in traits_of(task).notes[0]


def test_a_folder_without_development_files_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "train", rows_of("mnli"))
    assert len(task_of("mnli", tmp_path).problems()) == 2


def test_offline_without_files_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (problem,) = task_of("cola").problems()
    assert "task.path" in problem


def test_the_real_files_are_read(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPFT_ASSETS", str(assets))
    sizes = {
        name: tuple(len(task_of(name).load(split)) for split in Split)
        for name in ("cola", "mrpc", "rte", "stsb", "wnli")
    }
    assert sizes == {
        "cola": (8551, 1043),
        "mrpc": (3668, 408),
        "rte": (2490, 277),
        "stsb": (5749, 1500),
        "wnli": (635, 71),
    }
    train, held_out = (task_of("qnli").load(split) for split in Split)
    assert len(train) + len(held_out) == 5463
