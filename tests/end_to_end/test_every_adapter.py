"""`dpft train` with every adapter, on the embedded task with two steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from dpft import adapters
from dpft.adapters import AdapterName
from dpft.recipes import cli
from dpft.recipes.config.composition import settings_from_yaml
from dpft.recipes.models import load, quiet_peft
from dpft.recipes.preparation import prepare_evaluation
from dpft.recipes.reevaluation import load_trained
from dpft.run_folder import RunFolder

OVERRIDES = ["privacy.steps=2", "privacy.expected_batch_size=16"]
NEEDED = {"compacter": ["adapter.reduction_factor=8"]}  # the embedded model is 128 wide
QUICK = ("ia3", "prompt")
NAMES = [
    pytest.param(name.value, marks=() if name.value in QUICK else pytest.mark.slow)
    for name in AdapterName
]
PLAIN_PEFT = """
import sys
from peft import PeftConfig
assert PeftConfig.from_pretrained(sys.argv[1]).peft_type.value == sys.argv[2]
assert "dpft" not in sys.modules
"""
ON_DISK = {
    "bitfit": "LORA",
    "ffa_lora": "LORA",
    "ia3": "IA3",
    "lora": "LORA",
    "prefix": "PREFIX_TUNING",
    "prompt": "PROMPT_TUNING",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_adapter_trains_is_saved_and_is_read_back(
    name: str, tmp_path: Path, beside_transformers: Callable[..., Any]
) -> None:
    folder = tmp_path / "run"
    chosen = [f"adapter={name}", *NEEDED.get(name, []), f"hydra.run.dir={folder}"]
    assert cli.main(["train", "task=embedded", *chosen, *OVERRIDES]) == 0
    assert 0 <= json.loads((folder / "metrics.json").read_text())["metrics"]["accuracy"] <= 1
    trained = read_back(folder)
    fresh = dict(untrained(folder).named_parameters())
    moved = {n for n, p in trained.named_parameters() if not torch.equal(p, fresh[n])}
    assert any("classifier" in n for n in moved)
    assert any("classifier" not in n for n in moved)
    needs_library = name not in ON_DISK
    card = (folder / "adapter" / "README.md").read_text()
    assert ("import dpft.adapters" in card) is needs_library
    assert ("Plain transformers and peft suffice." in card) is not needs_library
    if not needs_library:
        beside_transformers(PLAIN_PEFT, folder / "adapter", ON_DISK[name]).check_returncode()


def read_back(folder: Path) -> PeftModel:
    prepared = prepare_evaluation(settings_from_yaml((folder / "config.yaml").read_text()))
    _, model = load_trained(prepared, RunFolder.open(folder))
    assert isinstance(model, PeftModel)
    return model


def untrained(folder: Path) -> PeftModel:
    settings = settings_from_yaml((folder / "config.yaml").read_text())
    prepared = prepare_evaluation(settings)
    seed = settings.run.seed
    base = load(prepared.base_model, settings.architecture, prepared.task.labels, seed).model
    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(seed)
        return adapters.build(settings.adapter.name, base, **settings.adapter_options())
