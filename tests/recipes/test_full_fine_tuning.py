"""`dpft train adapter=full`: every weight is trained, and a whole model is certified."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from dpft.errors import ConfigurationError
from dpft.recipes import cli
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.preparation import prepare
from dpft.verification import read_certificate

SHORT = [
    "adapter=full",
    "privacy.evaluation=public",
    "privacy.epochs=null",
    "privacy.steps=2",
    "privacy.expected_batch_size=8",
    "privacy.delta=1e-5",
    "architecture.max_length=32",
    "generation.beams=2",
    "generation.max_new_tokens=5",
]
LABELS = ["task=text_classification", "task.labels=[b,g]"]
WORDS = [
    *LABELS,
    "architecture=infilling",
    "architecture.template='{text} it was {mask} .'",
    "architecture.label_words=[terrible,great]",
]
TEXTS = ["task=table_to_text"]
LOADED: dict[str, tuple[str, list[str], Any]] = {
    "classifier": ("tiny_masked", LABELS, AutoModelForTokenClassification),
    "decoder, tied": ("tiny_decoder", TEXTS, AutoModelForCausalLM),
    "encoder-decoder, tied": ("tiny_encoder_decoder", TEXTS, AutoModelForSeq2SeqLM),
    "filled in": ("tiny_masked", WORDS, AutoModelForMaskedLM),
}

QUICK = ("decoder, tied",)
KINDS = [
    pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in sorted(LOADED)
]


def files(folder: Path, rows: list[dict[str, str]]) -> list[str]:
    for name in ("train", "held_out"):
        lines = "\n".join(map(json.dumps, rows * 20))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return [f"task.train={folder}/train.jsonl", f"task.validation={folder}/held_out.jsonl"]


def labelled(folder: Path) -> list[str]:
    return files(
        folder, [{"text": "good film", "label": "g"}, {"text": "a bad film", "label": "b"}]
    )


def rows_of(overrides: list[str], folder: Path) -> list[str]:
    tables = [
        {"table": f"patient : {name}", "text": f"{name} came."} for name in ("Ada", "Bob of A")
    ]
    return files(folder, tables) if overrides is TEXTS else labelled(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_masked: Path) -> Path:
    """A finished run of a classifier, which no test changes."""
    place = tmp_path_factory.mktemp("full")
    given = [*LABELS, *labelled(place), *SHORT, f"model={tiny_masked}"]
    assert cli.main(["train", *given, f"hydra.run.dir={place}/run"]) == 0
    return place / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_move_and_plain_transformers_loads_them(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    name, task, auto_class = LOADED[kind]
    base, folder = request.getfixturevalue(name), tmp_path / "run"
    given = [*task, *SHORT, *rows_of(task, tmp_path), f"model={base}", f"hydra.run.dir={folder}"]
    assert cli.main(["train", *given]) == 0
    assert f"model      {folder}/adapter" in capsys.readouterr().out
    loaded, info = auto_class.from_pretrained(folder / "adapter", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    before = dict(auto_class.from_pretrained(base).named_parameters())
    still = [n for n, p in loaded.named_parameters() if torch.equal(p, before[n])]
    assert not still
    assert AutoTokenizer.from_pretrained(folder / "adapter").get_vocab()
    assert cli.main(["certificate", "verify", str(folder)]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    capsys.readouterr()
    assert cli.main(["evaluate", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert all(f"{value:.4f}" in shown for value in metrics.values())


def test_the_card_loads_a_whole_model_and_no_adapter(run: Path) -> None:
    card = (run / "adapter" / "README.md").read_text()
    assert 'AutoModelForTokenClassification.from_pretrained("adapter"' in card
    assert "library_name: transformers" in card
    assert "Peft" not in card


def test_a_weight_that_was_changed_afterwards_is_found(run: Path) -> None:
    weights = run / "adapter" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert cli.main(["certificate", "verify", str(run)]) == 4


def test_a_run_on_top_of_a_whole_model_counts_both(run: Path, tmp_path: Path) -> None:
    second, given = tmp_path / "second", [*LABELS, *labelled(tmp_path), *SHORT]
    given[given.index("adapter=full")] = "adapter=lora"
    given += ["privacy.dataset_id=others", f"model={run}/adapter"]
    assert cli.main(["train", *given, f"hydra.run.dir={second}"]) == 0
    first = {each.run_id for each in read_certificate(run).runs}
    both = {each.run_id for each in read_certificate(second).runs}
    assert first < both
    assert len(both) == 2


def test_a_whole_model_is_no_adapter_to_be_merged(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["merge", "a + a", f"a={run}", "--out", str(tmp_path / "sum")]) == 2
    assert "adapter_config.json" in capsys.readouterr().err
    assert not (tmp_path / "sum").exists()


def test_a_run_without_its_weights_is_not_opened(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "adapter" / "model.safetensors").unlink()
    assert cli.main(["evaluate", str(run)]) == 2
    assert "to hold adapter/model.safetensors" in capsys.readouterr().err


def test_a_quantised_base_is_refused_before_it_is_loaded(tiny_masked: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_masked, tmp_path / "quantised")
    (base / "model.safetensors").unlink()
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    given = [*LABELS, *labelled(tmp_path), *SHORT, f"model={base}"]
    with pytest.raises(ConfigurationError, match="not to be quantised with adapter=full"):
        prepare(compose_settings(given))


def test_a_frozen_head_is_refused(tiny_masked: Path, tmp_path: Path) -> None:
    given = [*LABELS, *labelled(tmp_path), *SHORT, f"model={tiny_masked}"]
    with pytest.raises(ConfigurationError, match="train_head=False without adapter=full"):
        prepare(compose_settings([*given, "architecture.train_head=false"]))
