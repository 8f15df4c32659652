"""What the tests of readers share: a tiny model, and sources made of its adapters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from peft import get_peft_model_state_dict

from dpft import adapters
from dpft.adapters.algebra import BaseModel, Source


def _model(seed: int = 1) -> Any:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        vocab_size=40,
        max_position_embeddings=24,
        id2label={0: "bad", 1: "fair", 2: "good"},
        label2id={"bad": 0, "fair": 1, "good": 2},
    )
    model: Any = transformers.BertForSequenceClassification(config)
    return model.eval()


def _adapted(kind: str, **options: Any) -> Any:
    model = adapters.build(kind, _model(), **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "original_module" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _source(model: Any, base: BaseModel | None = None) -> Source:
    state = get_peft_model_state_dict(
        model, state_dict=model.state_dict(), save_embedding_layers=False
    )
    return Source(config=model.peft_config["default"], tensors=state, base=base)


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """Return a maker of tiny models: (seed)."""
    return _model


@pytest.fixture
def adapted() -> Callable[..., Any]:
    """Return a maker of tiny models with a stirred adapter: (kind, options)."""
    return _adapted


@pytest.fixture
def source() -> Callable[..., Source]:
    """Return what reads what peft would save: (model, base)."""
    return _source
