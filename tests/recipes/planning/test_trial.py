"""Costs that are foreseen from shapes are those of the engine on real tensors."""

import dataclasses
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2MoeConfig,
)

from dpft import adapters
from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine
from dpft.errors import ConfigurationError
from dpft.losses import CausalLanguageModelling, Classification, Pooling
from dpft.privacy import ClippingStyle
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.models import quiet_peft
from dpft.recipes.planning import trial
from dpft.recipes.planning.trial import Costs, costs_of
from tests.recipes.allocations import peak_bytes, saved_bytes

SHAPE = (8, 32)
CLOSE = 0.05  # of what torch allocates
LLAMA = LlamaConfig(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=101,
    pad_token_id=0,
)
GPT2 = GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=101, bos_token_id=1, eos_token_id=1)
BERT = BertConfig(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    vocab_size=101,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def foreseen(config: Any, *overrides: str) -> Costs:
    return costs_of(compose_settings(["task=e2e", "model=x", *overrides]), config, SHAPE)


def batch() -> dict[str, torch.Tensor]:
    ids = torch.ones(SHAPE, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids}


def adapted(model: Any, method: str = "lora") -> Any:
    with quiet_peft():
        return adapters.build(method, model).train()


def allocated(model: Any, loss: Any, records: dict[str, torch.Tensor]) -> int:
    """Return the most bytes that torch's allocator held at a time in one clipped pass."""
    engine = Engine(model, loss)
    total = ClippedSum(engine.parameters, ClippingStyle.FLAT, 1.0)
    total.add(engine.gradients(records))
    return peak_bytes(lambda: total.add(engine.gradients(records)))


@pytest.mark.slow
def test_memory_of_a_private_pass_is_what_torch_allocates() -> None:
    costs, model = foreseen(LLAMA), adapted(LlamaForCausalLM(LLAMA))
    loss = CausalLanguageModelling()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert costs.trained == sum(p.numel() for p in trained)
    assert costs.trained_bytes == 4 * costs.trained
    assert costs.frozen == sum(p.numel() for p in model.parameters()) - costs.trained
    assert not costs.in_proportion
    assert costs.peak_bytes == pytest.approx(allocated(model, loss, batch()), rel=CLOSE)
    assert costs.activation_bytes == pytest.approx(saved_bytes(model, loss, batch()), rel=CLOSE)
    assert costs.kept_bytes == pytest.approx(4 * 8 * costs.trained, rel=CLOSE)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return depths of the stacks that were followed; the pass itself costs nothing."""
    depths: list[int] = []

    def passed(model: Any, *_: object) -> dict[str, float]:
        depths.append(model.config.num_hidden_layers)
        names = ("activation_bytes", "peak_bytes", "kept_bytes", "flops")
        return dict.fromkeys(names, 0.0)

    monkeypatch.setattr(trial, "_pass", passed)
    return depths


@pytest.mark.parametrize(
    ("overrides", "depths"),
    [
        ((), [2, 4]),
        (("adapter.layers_to_transform=[0]",), [6]),
        (("adapter.layers_to_transform=[1,5]",), [6]),
        (("adapter.target_modules=[layers.5.self_attn.q_proj]",), [6]),
    ],
)
def test_blocks_that_are_not_adapted_alike_are_all_followed(
    overrides: tuple[str, ...], depths: list[int], followed: list[int]
) -> None:
    tall = LlamaConfig.from_dict(LLAMA.to_dict() | {"num_hidden_layers": 6})
    costs = foreseen(tall, *overrides)
    assert followed == depths
    assert costs.in_proportion is (len(depths) == 2)


def test_blocks_that_differ_without_a_word_are_all_followed(followed: list[int]) -> None:
    uneven = Qwen2MoeConfig(
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        num_experts=2,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=101,
        mlp_only_layers=[5],
    )
    assert not foreseen(uneven, "adapter.target_modules=[q_proj]").in_proportion
    assert followed == [2, 4, 6]


def test_what_quantisation_rounds_is_known_or_refused(followed: list[int]) -> None:
    costs = foreseen(LLAMA, "architecture.quantisation=int8")
    assert costs.linear == 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert costs.rows == 3 * (2 * 64 + 2 * 32 + 2 * 128 + 64)
    assert costs.largest == 64 * 128
    assert foreseen(LLAMA).linear == 0
    assert foreseen(GPT2, "architecture.quantisation=int4").linear == 3 * 12 * 64 * 64
    with pytest.raises(ConfigurationError, match="Conv1D"):
        foreseen(GPT2, "architecture.quantisation=int8")


@pytest.mark.slow
def test_two_short_stacks_say_what_a_tall_one_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    tall = LlamaConfig.from_dict(LLAMA.to_dict() | {"num_hidden_layers": 5})
    extended = dataclasses.asdict(foreseen(tall))
    assert extended.pop("in_proportion")
    monkeypatch.setattr("dpft.recipes.planning.trial._DEPTHS", (5, 5))
    followed = dataclasses.asdict(foreseen(tall))
    assert not followed.pop("in_proportion")
    assert extended == pytest.approx(followed, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_computed_anew_are_not_kept(dtype: str) -> None:
    given = f"architecture.dtype={dtype}"
    kept, anew = (
        foreseen(LLAMA, given),
        foreseen(LLAMA, given, "architecture.activation_checkpointing=true"),
    )
    assert anew.activation_bytes < 0.4 * kept.activation_bytes
    assert anew.flops > 1.2 * kept.flops
    model = LlamaForCausalLM(LLAMA).to(getattr(torch, dtype))
    model.activation_checkpointing_enable({"use_reentrant": False})
    taken = allocated(adapted(model), CausalLanguageModelling(), batch())
    assert anew.peak_bytes == pytest.approx(taken, rel=3 * CLOSE)


@pytest.mark.slow
def test_memory_is_that_of_other_architectures_and_methods_too() -> None:
    costs = foreseen(GPT2, "adapter=full")
    taken = allocated(GPT2LMHeadModel(GPT2).train(), CausalLanguageModelling(), batch())
    assert costs.peak_bytes == pytest.approx(taken, rel=2 * CLOSE)
    costs = foreseen(BERT, "task=sst2", "adapter=bottleneck", "architecture.train_head=true")
    labelled = batch() | {"labels": torch.zeros(SHAPE[0], dtype=torch.long)}
    model = adapted(BertForTokenClassification(BERT), "bottleneck")
    taken = allocated(model, Classification(Pooling.MEAN), labelled)
    assert costs.peak_bytes == pytest.approx(taken, rel=2 * CLOSE)
