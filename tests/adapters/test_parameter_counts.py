"""Trainable parameters beside the head, as published and as other implementations have them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from dpft import adapters

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

# As published with the weights; what is not named is the class's own default.
BASES: dict[str, Callable[[], PreTrainedModel]] = {
    "bert-base": lambda: BertForSequenceClassification(BertConfig()),
    "roberta-base": lambda: RobertaForSequenceClassification(
        RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config()),
    "t5-base": lambda: T5ForConditionalGeneration(
        T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12)
    ),
}
ROWS: dict[str, tuple[str, dict[str, Any], tuple[int | None, ...]]] = {
    "houlsby": (
        "bottleneck",
        {"placement": "houlsby", "reduction_factor": 16},
        (1_789_056, 1_789_056, 1_789_056, 3_578_112),
    ),
    "pfeiffer": (
        "bottleneck",
        {"placement": "pfeiffer", "reduction_factor": 16},
        (894_528, 894_528, 894_528, 1_789_056),
    ),
    "compacter": ("compacter", {}, (57_088, 57_088, 57_088, 114_112)),
    "compacter++": ("compacter", {"placement": "feed_forward"}, (28_576, 28_576, 28_576, 57_088)),
    "lora": ("lora", {"r": 8}, (294_912, 294_912, 294_912, 884_736)),
    "ffa_lora": ("ffa_lora", {"r": 8}, (147_456, 147_456, 221_184, 442_368)),
    "ia3": ("ia3", {}, (55_296, 55_296, 64_512, 129_024)),  # gpt2: see dpft.adapters.ia3
    "prompt": (
        "prompt",
        {"num_virtual_tokens": 100, "prompt_tuning_init": "RANDOM"},
        (76_800, 76_800, 76_800, 76_800),
    ),
    "prefix": ("prefix", {"num_virtual_tokens": 30}, (552_960, 552_960, 552_960, 552_960)),
    "attempt": ("attempt", {"num_virtual_tokens": 100}, (231_936, None, None, 231_936)),
    "bitfit": ("bitfit", {}, (102_912, 102_144, 102_144, None)),
}
CASES = [
    pytest.param(base, row, count, id=f"{row}-{base}")
    for row, (_, _, counts) in ROWS.items()
    for base, count in zip(BASES, counts, strict=True)
    if count is not None
]


@pytest.mark.parametrize(("base", "row", "count"), CASES)
def test_the_adapter_has_as_many_parameters_as_published(base: str, row: str, count: int) -> None:
    with torch.device("meta"):
        model = BASES[base]()
    method, options, _ = ROWS[row]
    adapted = adapters.build(method, model, **options)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert sum(p.numel() for name, p in trained.items() if "modules_to_save" not in name) == count


@pytest.mark.parametrize(
    ("base", "count"),
    [("bert-base", 109_482_240), ("gpt2", 124_439_808), ("t5-base", 222_903_552)],
)
def test_the_bases_are_those_that_were_published(base: str, count: int) -> None:
    with torch.device("meta"):
        model = BASES[base]()
    assert sum(parameter.numel() for parameter in model.base_model.parameters()) == count
