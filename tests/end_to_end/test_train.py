"""`dpft train` as a user runs it, on the embedded task with few steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpft.accounting import Certificate
from dpft.recipes import cli
from dpft.recipes.config.composition import settings_from_yaml
from dpft.recipes.metrics.evaluation import predict_logits
from dpft.recipes.preparation import prepare_evaluation
from dpft.recipes.reevaluation import load_trained
from dpft.rendering import percent_rounded_up, rounded_up
from dpft.run_folder import RunFolder

OVERRIDES = ["privacy.steps=3", "privacy.expected_batch_size=32", "run.log_every=1"]
EMBEDDED = Path(__file__).parents[2] / "recipes" / "embedded" / "model"
FILES = {
    "adapter",
    "certificate.json",
    "charges.jsonl",
    "checkpoints",
    "config.yaml",
    "environment.json",
    "metrics.json",
    "report.md",
    "run.log",
}
PLAIN_PEFT = """
import json, sys
import torch
from peft import PeftModel
from transformers import {auto}, AutoTokenizer

base_folder, adapter_folder, texts_file, out_file = sys.argv[1:]
base = {auto}.from_pretrained(base_folder, num_labels=5, dtype=torch.float32)
model = PeftModel.from_pretrained(base, adapter_folder).eval()
tokenizer = AutoTokenizer.from_pretrained(base_folder)
texts = json.load(open(texts_file))
batch = tokenizer(texts, truncation=True, max_length=64, padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
if {mean}:
    weights = batch["attention_mask"].unsqueeze(-1).float()
    logits = (logits * weights).sum(1) / weights.sum(1)
json.dump(logits.tolist(), open(out_file, "w"))
assert "dpft" not in sys.modules
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("run") / "private")


def trained(folder: Path, *overrides: str) -> Path:
    assert cli.main(["train", *OVERRIDES, f"hydra.run.dir={folder}", *overrides]) == 0
    return folder


def test_a_run_leaves_exactly_the_promised_files(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == FILES
    assert {path.name for path in (run / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "certificate.json",
        "preflight.json",
    }


def test_every_artefact_tells_the_same_epsilon(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    certificate = Certificate.from_json((run / "certificate.json").read_text())
    epsilon = certificate.epsilon(1e-5)
    assert metrics["epsilon"] == epsilon
    assert f"epsilon = {rounded_up(epsilon)} at delta = 1e-05" in (run / "report.md").read_text()
    assert (
        f"epsilon = {rounded_up(epsilon)} at delta = 1e-05"
        in (run / "adapter/README.md").read_text()
    )
    detected = percent_rounded_up(certificate.attack_bound(0.01, 1e-5).rate)
    for page in ("report.md", "adapter/README.md"):
        assert f"detects at most {detected} of" in (run / page).read_text()
        assert "by the whole trade-off curve" in (run / page).read_text()
    last = (run / "run.log").read_text().splitlines()[-1]
    assert last == f"step 3 of 3, epsilon {rounded_up(epsilon)} of {rounded_up(epsilon)}"


def test_metrics_hold_public_numbers_and_what_a_metric_cost(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "embedded"
    assert metrics["split"] == "validation"
    assert metrics["metric_status"] == {"accuracy": {"status": "public"}}
    assert 0 <= metrics["metrics"]["accuracy"] <= 1
    assert metrics["sample_rate"] == 32 / 6000
    assert metrics["steps"] == metrics["updates"] == 3
    assert metrics["examples_per_second"] > 0


def test_the_saved_configuration_is_the_one_that_ran(run: Path) -> None:
    settings = settings_from_yaml((run / "config.yaml").read_text())
    assert settings.privacy.steps == 3
    assert settings.task.name == "embedded"


@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_plain_peft_loads_the_adapter_and_predicts_the_same(
    pooling: str, run: Path, tmp_path: Path, beside_transformers: Callable[..., Any]
) -> None:
    folder = (
        run if pooling == "mean" else trained(tmp_path / "run", f"architecture.pooling={pooling}")
    )
    prepared = prepare_evaluation(settings_from_yaml((folder / "config.yaml").read_text()))
    loaded, model = load_trained(prepared, RunFolder.open(folder))
    rows = prepared.held_out[:8]
    ours = predict_logits(model, loaded.encode(rows, prepared.task), loaded.pooling)
    (tmp_path / "texts.json").write_text(json.dumps([row["text"] for row in rows]))
    kind = "Sequence" if pooling == "head" else "Token"
    code = PLAIN_PEFT.format(auto=f"AutoModelFor{kind}Classification", mean=pooling == "mean")
    arguments = [EMBEDDED, folder / "adapter", tmp_path / "texts.json", tmp_path / "logits.json"]
    beside_transformers(code, *arguments).check_returncode()
    theirs = torch.tensor(json.loads((tmp_path / "logits.json").read_text()))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_training_moves_the_adapter(run: Path) -> None:
    prepared = prepare_evaluation(settings_from_yaml((run / "config.yaml").read_text()))
    _, model = load_trained(prepared, RunFolder.open(run))
    moved = [p for name, p in model.named_parameters() if "lora_B" in name]
    assert moved
    assert all(parameter.abs().max() > 0 for parameter in moved)  # LoRA's B starts at zero


def test_a_second_run_never_mixes_with_the_first(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert cli.main(["train", *OVERRIDES, f"hydra.run.dir={run}"]) == 2
    assert "to be absent or empty" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_without_privacy_says_so_in_every_artefact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path / "run", "privacy=not_private", *OVERRIDES)
    assert (folder / "report.md").read_text().startswith("**NOT PRIVATE**\n")
    assert "**NOT PRIVATE**" in (folder / "adapter" / "README.md").read_text()
    assert all("NOT PRIVATE" in line for line in (folder / "run.log").read_text().splitlines())
    assert "NOT PRIVATE" in capsys.readouterr().out
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["private"], metrics["epsilon"]) == (False, None)


def test_a_sweep_makes_one_folder_for_each_run_and_adds_them_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = [f"hydra.sweep.dir={tmp_path}/s", "privacy.steps=1", "privacy.expected_batch_size=8"]
    assert cli.main(["train", "-m", "privacy.epsilon=4,8", *sweep]) == 0
    for number, epsilon in enumerate((4, 8)):
        metrics = json.loads((tmp_path / "s" / str(number) / "metrics.json").read_text())
        assert metrics["epsilon"] == pytest.approx(epsilon, rel=0.01)
    said = capsys.readouterr().out.splitlines()
    (line,) = [line for line in said if line.startswith("sweep")]
    certificates = [
        Certificate.from_json((tmp_path / "s" / str(number) / "certificate.json").read_text())
        for number in range(2)
    ]
    together = certificates[0].compose(certificates[1]).epsilon(1e-5)
    assert together > 8
    assert f"2 releases on embedded together: epsilon {rounded_up(together)} at delta" in line
