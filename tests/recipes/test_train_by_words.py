"""`dpft train` where a language model names labels by words: infilling, and ranked answers."""

import json
from pathlib import Path

import pytest
import torch

from dpft.losses import Infilling, RankedChoices
from dpft.recipes import cli
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.metrics.evaluation import predict_logits
from dpft.recipes.models import load_for
from dpft.recipes.preparation import prepare

FAMILIES = {"infilling": "{text} it was {mask} .", "ranked": "{text} it was"}


def overrides(folder: Path, family: str, model: Path) -> list[str]:
    train, validation = folder / "rows.jsonl", folder / "held_out.jsonl"
    rows = [{"text": f"{word} film", "label": label} for word, label in (("good", "g"), ("a", "b"))]
    for path in (train, validation):
        path.write_text("\n".join(map(json.dumps, rows * 20)), encoding="utf-8")
    return [
        "task=text_classification",
        f"task.train={train}",
        f"task.validation={validation}",
        "task.labels=[b,g]",
        f"architecture={family}",
        f"architecture.template='{FAMILIES[family]}'",
        "architecture.label_words=[terrible,great]",
        "architecture.max_length=32",
        f"model={model}",
        "privacy.evaluation=public",
        "privacy.epochs=null",
        "privacy.steps=2",
        "privacy.expected_batch_size=8",
    ]


@pytest.fixture(params=sorted(FAMILIES))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    name = "tiny_masked" if request.param == "infilling" else "tiny_encoder_decoder"
    return overrides(tmp_path, request.param, request.getfixturevalue(name))


def test_a_run_learns_is_scored_and_is_scored_the_same_again(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert cli.main(["train", *run, f"hydra.run.dir={folder}"]) == 0
    found = json.loads((folder / "metrics.json").read_text())
    assert 0 <= found["metrics"]["accuracy"] <= 1
    assert "architecture.label_words" in (folder / "adapter" / "README.md").read_text()
    capsys.readouterr()
    assert cli.main(["evaluate", str(folder)]) == 0
    assert f"{found['metrics']['accuracy']:.4f}" in capsys.readouterr().out


def test_classes_are_scored_by_the_loss_that_is_trained(run: list[str]) -> None:
    prepared = prepare(compose_settings(run))
    loaded = load_for(prepared.base_model, prepared.settings.architecture, prepared.task, 0)
    assert loaded.answers is not None
    assert isinstance(loaded.answers.loss, Infilling | RankedChoices)
    encoded = loaded.encode(prepared.rows[:3], prepared.task)
    together = predict_logits(loaded.model, encoded, loaded.scoring)
    assert together.shape == (3, 2)
    batch = {
        name: torch.tensor([encoded.records[1][name]]) for name in ("input_ids", "attention_mask")
    }
    alone = loaded.answers.loss.logits(loaded.model, batch)
    assert torch.allclose(together[1], alone[0], atol=1e-5)


def test_records_of_the_preflight_hold_the_mask_once_and_are_nobodys(run: list[str]) -> None:
    prepared = prepare(compose_settings(run))
    loaded = load_for(prepared.base_model, prepared.settings.architecture, prepared.task, 0)
    synthetic = loaded.synthetic(prepared.task)
    assert synthetic is not None
    assert len({len(row["input_ids"]) for row in synthetic}) == 3
    mask = loaded.tokenizer.mask_token_id
    if mask is not None:
        assert all(row["input_ids"].count(mask) == 1 for row in synthetic)
    private = loaded.encode(prepared.rows, prepared.task).records
    assert not [row for row in synthetic if row["input_ids"] in [r["input_ids"] for r in private]]
