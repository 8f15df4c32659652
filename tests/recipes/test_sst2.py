import json
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.sst2 import HUB_MODEL, Sst2, Sst2Settings


def folder_with(path: Path, label: object) -> Path:
    for split in Split:
        row = json.dumps({"sentence": "a fine film ", "label": label, "idx": 0})
        (path / f"{split.value}.jsonl").write_text(row)
    return path


def test_a_folder_of_files_is_read(tmp_path: Path) -> None:
    task = Sst2(Sst2Settings(path=str(folder_with(tmp_path, 1))))
    assert task.problems() == []
    assert task.load(Split.TRAIN) == [{"text": "a fine film ", "label": 1}]


def test_the_hidden_labels_of_the_test_split_are_refused(tmp_path: Path) -> None:
    task = Sst2(Sst2Settings(path=str(folder_with(tmp_path, -1))))
    with pytest.raises(ConfigurationError, match="row=1 column=label"):
        task.load(Split.TRAIN)


def test_a_folder_without_files_is_a_problem_before_anything_is_read(tmp_path: Path) -> None:
    [problem] = Sst2(Sst2Settings(path=str(tmp_path))).problems()
    assert "train.parquet" in problem


def test_offline_without_files_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = Sst2(Sst2Settings())
    [problem] = task.problems()
    assert "task.path" in problem
    assert task.default_model() == HUB_MODEL


def test_the_benchmark_is_public() -> None:
    assert Sst2(Sst2Settings()).evaluation is EvaluationStatus.PUBLIC


def test_the_real_files_have_their_published_sizes(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPFT_ASSETS", str(assets))
    task = Sst2(Sst2Settings())
    assert len(task.load(Split.VALIDATION)) == 872
    assert len(task.load(Split.TRAIN)) == 67_349
    assert task.default_model() == str(assets / "models" / "minilm-l6")
