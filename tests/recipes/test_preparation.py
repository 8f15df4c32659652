import json
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.preparation import prepare

RATE = ["privacy.expected_batch_size=4", "privacy.epochs=1", "privacy.delta=1e-3"]


def own_files(folder: Path, *overrides: str, validation: bool = True) -> list[str]:
    rows = [{"text": f"letter {i}", "label": "yes" if i % 2 else "no"} for i in range(20)]
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    held_out = [f"task.validation={folder / 'validation.jsonl'}"] if validation else []
    files = [f"task.train={folder / 'train.jsonl'}", "model=embedded", *held_out]
    return ["task=text_classification", "task.labels=[no,yes]", *files, *RATE, *overrides]


def test_own_files_get_no_metric_unless_asked_for(tmp_path: Path) -> None:
    prepared = prepare(compose_settings(own_files(tmp_path)))
    assert prepared.privacy.evaluation is EvaluationStatus.NONE
    assert prepared.held_out == []
    assert len(prepared.rows) == 20


def test_a_declared_evaluation_reads_the_held_out_records(tmp_path: Path) -> None:
    prepared = prepare(compose_settings(own_files(tmp_path, "privacy.evaluation=public")))
    assert len(prepared.held_out) == 20


def test_an_evaluation_without_held_out_records_is_refused(tmp_path: Path) -> None:
    overrides = own_files(tmp_path, "privacy.evaluation=public", validation=False)
    with pytest.raises(ConfigurationError, match=r"task\.validation to be given"):
        prepare(compose_settings(overrides))


def test_the_training_file_is_never_published_as_held_out_records(tmp_path: Path) -> None:
    overrides = own_files(tmp_path, "privacy.evaluation=public")
    alias = tmp_path / "alias.jsonl"
    alias.symlink_to(tmp_path / "train.jsonl")
    for file in (tmp_path / "train.jsonl", alias):
        with pytest.raises(ConfigurationError, match="to be another file than"):
            prepare(compose_settings([*overrides, f"task.validation={file}"]))
    unscored = own_files(tmp_path, "privacy.evaluation=none")
    prepare(compose_settings([*unscored, f"task.validation={alias}"]))


def test_a_noisy_evaluation_needs_its_price(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="evaluation_epsilon=None to be given"):
        compose_settings(own_files(tmp_path, "privacy.evaluation=noisy"))


def test_an_evaluation_of_none_wins_over_a_public_task() -> None:
    settings = compose_settings(["privacy.evaluation=none", "privacy.steps=1"])
    assert prepare(settings).held_out == []


def test_a_batch_larger_than_the_data_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    unloadable = tmp_path / "model"
    unloadable.mkdir()
    (unloadable / "config.json").write_text("{}")
    overrides = own_files(tmp_path, "privacy.expected_batch_size=21", f"model={unloadable}")
    with pytest.raises(ConfigurationError, match="expected_batch_size=21"):
        prepare(compose_settings(overrides))


def test_a_model_without_a_tokenizer_is_refused_as_a_setting(tmp_path: Path) -> None:
    unloadable = tmp_path / "model"
    unloadable.mkdir()
    (unloadable / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="to come with a tokenizer"):
        prepare(compose_settings(own_files(tmp_path, f"model={unloadable}")))


def test_missing_files_and_a_missing_model_are_named_together(tmp_path: Path) -> None:
    overrides = own_files(tmp_path, "model=./nowhere", f"task.train={tmp_path / 'no.csv'}")
    with pytest.raises(ConfigurationError) as caught:
        prepare(compose_settings(overrides))
    assert len(caught.value.messages) == 2


def test_own_files_need_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="model to be given"):
        prepare(compose_settings(own_files(tmp_path, "model=null")))
