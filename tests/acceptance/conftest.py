"""A user's small model, records and settings, and what must not happen before a refusal."""

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft.losses import Classification
from dpft.sampling import PoissonSampler

RECORDS = 60


def _build() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=30,
        num_labels=2,  # type: ignore[call-arg]  # a field of the base class
    )
    return BertForSequenceClassification(config)


def _records() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for index in range(RECORDS):
        ids = torch.randint(5, 30, (2 + index % 9,), generator=generator).tolist()
        made.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2})
    return made


def _privacy(**changes: Any) -> dpft.Privacy:
    fields = {"noise_multiplier": 1.0, "delta": 1e-3, "expected_batch_size": 15, "steps": 2}
    return dpft.Privacy(**{**fields, **changes})


def _fit(**changes: Any) -> dpft.FitResult:
    settings = {
        "model": _build(),
        "records": _records(),
        "loss": Classification(),
        "privacy": _privacy(),
        "adapter": peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2),
    }
    return dpft.fit(**{**settings, **changes})


@pytest.fixture
def build() -> Callable[[], BertForSequenceClassification]:
    """Return the maker of the model."""
    return _build


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """Return encoded records of many lengths."""
    return _records()


@pytest.fixture
def privacy() -> Callable[..., dpft.Privacy]:
    """Return the maker of a guarantee, with changes."""
    return _privacy


@pytest.fixture
def fit() -> Callable[..., dpft.FitResult]:
    """Return `dpft.fit` with everything given, but for what changes."""
    return _fit


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the steps whose samples are drawn, as they are."""
    steps: list[int] = []
    draw = PoissonSampler.draw

    def counted(self: PoissonSampler, step: int) -> Any:
        steps.append(step)
        return draw(self, step)

    monkeypatch.setattr(PoissonSampler, "draw", counted)
    return steps
