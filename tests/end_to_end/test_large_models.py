"""Whole runs with what large bases need: bfloat16, fewer bits, activations computed anew."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import dpft
from dpft import adapters
from dpft.losses import Classification, Pooling
from dpft.recipes import cli
from dpft.recipes.config.schema import Architecture
from dpft.recipes.models import load, quiet_peft
from dpft.run_folder import RunFolder

STEPS = ["privacy.steps=2", "privacy.expected_batch_size=16"]
OPTIONS = {
    "bfloat16": ["architecture.dtype=bfloat16"],
    "anew": ["architecture.dtype=bfloat16", "architecture.activation_checkpointing=true"],
    "int8": ["architecture.quantisation=int8"],
    "int4": ["architecture.quantisation=int4", "architecture.activation_checkpointing=true"],
}
LIBRARIES = {"int8": "torchao", "int4": "bitsandbytes"}


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_a_run_with_a_large_bases_options_ends_in_a_certified_adapter(
    options: str, tmp_path: Path
) -> None:
    library = LIBRARIES.get(options)
    if library is not None and find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    folder = tmp_path / "run"
    line = ["train", "task=embedded", *OPTIONS[options], *STEPS, f"hydra.run.dir={folder}"]
    assert cli.main(line) == 0
    fields = json.loads((folder / "metrics.json").read_text())
    assert 0 < fields["epsilon"] < 8.01
    assert 0 <= fields["metrics"]["accuracy"] <= 1
    assert (RunFolder.open(folder).adapter / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_adapters_in_bfloat16_move_too_by_noise_that_was_added_in_float64() -> None:
    with quiet_peft():
        loaded = load("embedded", Architecture(pooling="head"), ("a", "b"), 0)  # type: ignore[arg-type]
        model = adapters.build("lora", loaded.model).to(torch.bfloat16)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in before.values()} == {torch.bfloat16}
    rows = [{"input_ids": [2, 5 + n], "attention_mask": [1, 1], "labels": n % 2} for n in range(40)]
    result = dpft.fit(
        model,
        rows,
        loss=Classification(Pooling.HEAD),
        privacy=dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=10, steps=3),
        tokenizer=loaded.tokenizer,
        optim=dpft.Optim(learning_rate=0.05),
    )
    assert 0 < result.epsilon < float("inf")
    after = dict(model.named_parameters())
    assert all(not torch.equal(after[name], old) for name, old in before.items())
    assert {after[name].dtype for name in before} == {torch.bfloat16}
