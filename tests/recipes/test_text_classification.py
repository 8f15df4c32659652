import json
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.own_files import OwnFilesTask
from dpft.recipes.tasks.text_classification import (
    TextClassificationSettings,
    text_classification,
)


def task_of(folder: Path, labels: tuple[str, ...] = ("no", "yes"), **fields: Any) -> OwnFilesTask:
    rows = [{"body": "first", "kind": "yes"}, {"body": "second", "kind": "no"}]
    file = folder / "train.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    given: dict[str, Any] = {"train": str(file), "text_column": "body", "label_column": "kind"}
    return text_classification(TextClassificationSettings(labels=labels, **given | fields))


def test_columns_and_labels_are_those_declared(tmp_path: Path) -> None:
    rows = task_of(tmp_path).load(Split.TRAIN)
    assert rows == [{"text": "first", "label": 1}, {"text": "second", "label": 0}]


def test_a_declared_label_set_is_never_read_off_the_records(tmp_path: Path) -> None:
    assert task_of(tmp_path, ("no", "yes", "never")).labels == ("no", "yes", "never")
    with pytest.raises(ConfigurationError, match="row=1 column=kind to be one of the declared"):
        task_of(tmp_path, ("no", "perhaps")).load(Split.TRAIN)


def test_own_files_have_no_metric_unless_somebody_says_so(tmp_path: Path) -> None:
    assert task_of(tmp_path).evaluation is None


def test_numeric_labels_match_their_text(tmp_path: Path) -> None:
    file = tmp_path / "numbers.jsonl"
    file.write_text('{"body": "x", "kind": 1}')
    assert task_of(tmp_path, ("0", "1"), train=str(file)).load(Split.TRAIN)[0]["label"] == 1


def test_all_files_that_are_not_there_are_named_together(tmp_path: Path) -> None:
    task = task_of(tmp_path, train=str(tmp_path / "a.csv"), validation=str(tmp_path / "b.xls"))
    assert [problem.split("=")[0] for problem in task.problems()] == [
        "Expected task.train",
        "Expected task.validation",
    ]


def test_a_metric_needs_held_out_records(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"task\.validation to be given"):
        task_of(tmp_path).load(Split.VALIDATION)


def test_a_label_is_declared_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="to differ from each other"):
        task_of(tmp_path, ("no", "no"))


def test_one_label_is_no_classification() -> None:
    with pytest.raises(ConfigurationError, match="labels"):
        TextClassificationSettings(train="train.csv", labels=("no",))
