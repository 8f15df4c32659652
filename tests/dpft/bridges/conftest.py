"""Small models, records and Trainers for the tests of the bridge to transformers."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn
from transformers import TrainingArguments

import dpft
from dpft.bridges.trainer import DPTrainer
from dpft.private_step import StepSettings
from dpft.randomness import PinnedRandomness
from dpft.training import FitOptions

RECORDS, EXPECTED, STEPS = 80, 20, 6
PRIVACY = dpft.Privacy(
    noise_multiplier=1.0, delta=1e-3, expected_batch_size=EXPECTED, steps=STEPS, clip_norm=0.5
)
PINNED = FitOptions(step=StepSettings(randomness=PinnedRandomness(3)))


def _model(method: str, dropout: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    if method == "lora":
        config = transformers.BertConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            vocab_size=30,
            num_labels=2,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        base: Any = transformers.BertForSequenceClassification(config)
        adapter: Any = peft.LoraConfig(
            task_type="SEQ_CLS", target_modules=["query"], r=2, modules_to_save=["classifier"]
        )
    else:
        sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24, "vocab_size": 30}
        tokens = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        config = transformers.GPT2Config(**sizes, **tokens, **rates)
        base = transformers.GPT2LMHeadModel(config)
        adapter = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    return peft.get_peft_model(base, adapter)


def _records(method: str = "lora", count: int = RECORDS) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for index in range(count):
        words = torch.randint(5, 30, (2 + index % 5,), generator=generator).tolist()
        ids = [3 + index % 2, *words]
        labels = index % 2 if method == "lora" else ids
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    return rows


@pytest.fixture
def model() -> Callable[..., nn.Module]:
    """Return a maker of small models with an adapter: ("lora" or "prompt", dropout) -> model."""
    return _model


@pytest.fixture
def records() -> Callable[..., list[dict[str, Any]]]:
    """Return a maker of encoded records: (method, count) -> rows."""
    return _records


@pytest.fixture
def privacy() -> dpft.Privacy:
    """Return the guarantee that tests ask for."""
    return PRIVACY


@pytest.fixture
def pinned() -> FitOptions:
    """Return the options with pinned randomness that Trainers here have by default."""
    return PINNED


def _arguments(out: Path | str, **settings: Any) -> TrainingArguments:
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
    usual = {"learning_rate": 0.05, "optim": "adamw_torch", "logging_steps": 2}
    physical = {"per_device_train_batch_size": 8}
    return TrainingArguments(str(out), **{**quiet, **usual, **physical, **settings})


def _trainer(out: Path, method: str = "lora", **settings: Any) -> DPTrainer:
    own = ("loss", "options", "callbacks", "data_collator", "train_dataset", "eval_dataset", "kind")
    own += ("processing_class",)
    given = {name: settings.pop(name) for name in own if name in settings}
    given |= {"optimizers": settings.pop("optimizers")} if "optimizers" in settings else {}
    kind: type[DPTrainer] = given.pop("kind", DPTrainer)
    built = settings.pop("model", None) or _model(method)
    arguments = {"train_dataset": _records(method), "options": PINNED} | given
    arguments["privacy"] = settings.pop("privacy", PRIVACY)
    return kind(built, _arguments(out, **settings), **arguments)


@pytest.fixture
def arguments() -> Callable[..., TrainingArguments]:
    """Return a maker of quiet arguments: (folder, **fields) -> TrainingArguments."""
    return _arguments


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., DPTrainer]:
    """Return a maker of Trainers: (folder, method, **arguments of either kind) -> DPTrainer.

    The default folder lies below two others, so that a ledger stays within the test's own. To
    compute no epsilon saves seconds: randomness is pinned unless options are given.
    """
    return functools.partial(_in, tmp_path)


def _in(place: Path, name: str = "run", method: str = "lora", **settings: Any) -> DPTrainer:
    return _trainer(place / "all" / "runs" / name, method, **settings)
