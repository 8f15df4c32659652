"""Texts are scored against all references of their table, and only where records are public."""

import dataclasses
import json
from pathlib import Path

import pytest

from dpft.errors import BrokenGuaranteeError
from dpft.privacy import EvaluationStatus
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.generation import judging
from dpft.recipes.generation.judging import judge_texts, words_apart
from dpft.recipes.models import LoadedModel, load_for
from dpft.recipes.preparation import Prepared, prepare_evaluation


@pytest.fixture
def prepared(tmp_path: Path, tiny_decoder: Path) -> Prepared:
    rows = [
        {"table": "a : b", "text": "First said here it is now."},
        {"table": "c : d", "text": "Other things were said of it."},
        {"table": "a : b", "text": "Second said here it is now."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    train = path.with_name("train.jsonl")
    train.write_text(json.dumps({"table": "e : f", "text": "It is there."}), encoding="utf-8")
    files = [f"task.train={train}", f"task.validation={path}", f"model={tiny_decoder}"]
    asked = ["task=table_to_text", *files, "privacy.evaluation=public", "generation.beams=1"]
    return prepare_evaluation(compose_settings(asked))


@pytest.fixture
def loaded(prepared: Prepared) -> LoadedModel:
    return load_for(prepared.base_model, prepared.settings.architecture, prepared.task, 0)


def with_status(prepared: Prepared, status: EvaluationStatus) -> Prepared:
    return dataclasses.replace(
        prepared, privacy=dataclasses.replace(prepared.privacy, evaluation=status)
    )


def test_any_reference_of_the_table_counts(
    prepared: Prepared, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = ["Second said here it is now.", "Other things were said of it."]
    monkeypatch.setattr(judging, "generate", lambda *_: said)
    found = judge_texts(loaded.model, loaded, prepared, tmp_path)
    assert found.values["bleu"] == pytest.approx(100)
    assert found.status["bleu"]["status"] == "public"
    lines = (tmp_path / "generations.jsonl").read_text().splitlines()
    assert [json.loads(line)["written"] for line in lines] == said


def test_nothing_is_written_or_scored_of_records_that_are_not_public(
    prepared: Prepared, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nothing = judge_texts(
        loaded.model, loaded, with_status(prepared, EvaluationStatus.NONE), tmp_path / "none"
    )
    assert not nothing.values
    noisy = dataclasses.replace(prepared, privacy=_Noisy())  # type: ignore[arg-type]
    monkeypatch.setattr(judging, "generate", lambda *_: pytest.fail("a text was written"))
    with pytest.raises(BrokenGuaranteeError, match="figure without noise"):
        judge_texts(loaded.model, loaded, noisy, tmp_path)
    assert not (tmp_path / "generations.jsonl").exists()


class _Noisy:
    evaluation = EvaluationStatus.NOISY


def test_words_stand_apart_as_in_the_papers() -> None:
    assert words_apart("Blue Spice's £20 food.") == "blue spice ' s £ 20 food ."
