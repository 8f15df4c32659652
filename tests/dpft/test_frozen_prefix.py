"""Frozen lower blocks: passing them over changes no loss and no gradient, or it is refused."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn

from dpft.engine.attachment import Engine, PerRecordLoss
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.frozen_prefix import frozen_blocks
from dpft.frozen_prefix_batches import PrefixLoss

Batch = dict[str, torch.Tensor]
Build = Callable[..., nn.Module]
Texts = Callable[..., Batch]
Gradients = Mapping[str, torch.Tensor]
ARCHITECTURES = ("bert", "roberta", "gpt2", "llama", "t5")
UPPER = {
    "bert": "encoder.layer.1.",
    "roberta": "encoder.layer.1.",
    "gpt2": "h.1.",
    "llama": "layers.1.",
    "t5": "encoder.block.1.",
}
# The norms of T5 and Llama compute in float32 whatever the weights are.
TOLERANCE = {"bert": 1e-12, "roberta": 1e-12, "gpt2": 1e-12, "llama": 1e-6, "t5": 1e-6}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def upper(build: Build, architecture: str, dropout: float = 0.0) -> nn.Module:
    """Return a model in train mode of which only the upper block is trained."""
    torch.manual_seed(3)
    model = build(architecture, dropout).double()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(UPPER[architecture] in name)
    return model.train()


def with_states(model: nn.Module, loss: PerRecordLoss, batch: Batch) -> tuple[PrefixLoss, Batch]:
    """Return a loss and a batch of which the lower blocks are passed over."""
    blocks = frozen_blocks(model, loss, batch)
    return PrefixLoss(loss, blocks), {**batch, "raw_frozen_states": blocks.raw_states(loss, batch)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_per_record_gradients_are_those_of_a_loop_without_the_cache(
    architecture: str,
    build: Build,
    texts: Texts,
    losses: PerRecordLoss,
    loop: Callable[..., Gradients],
    error: Callable[[Gradients, Gradients], float],
) -> None:
    model, batch = upper(build, architecture), texts()
    expected = loop(model, batch, losses)
    loss, cached = with_states(model, losses, batch)
    got = Engine(model, loss).raw_gradients(cached)
    assert error(got, expected) < max(1e-9, TOLERANCE[architecture])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_of_records_padded_to_another_length_give_the_same_losses(
    architecture: str, build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model, batch = upper(build, architecture), texts(tokens=7)
    loss, cached = with_states(model, losses, batch)
    longer = {
        name: nn.functional.pad(value, (0, 3)) if name in ("input_ids", "attention_mask") else value
        for name, value in batch.items()
    }
    last = cached["raw_frozen_states"][:, -1:].expand(-1, 3, -1)
    longer["raw_frozen_states"] = torch.cat([cached["raw_frozen_states"], last], dim=1)
    expected = losses(model, batch)
    assert torch.allclose(loss(model, longer), expected, rtol=0, atol=TOLERANCE[architecture])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_frozen_block_computes_anything_when_states_are_given(
    architecture: str, build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, architecture)
    loss, cached = with_states(model, losses, texts())
    with torch.no_grad():  # whoever computes in the lower block returns NaN
        for name, parameter in model.named_parameters():
            if UPPER[architecture].replace("1", "0") in name and "relative" not in name:
                parameter.fill_(torch.nan)
    assert torch.isfinite(loss(model, cached)).all()
    assert torch.isnan(losses(model, texts())).any()


def other_architectures() -> dict[str, Any]:
    wide = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8}
    return {
        "distilbert": transformers.DistilBertConfig(
            vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=24, dropout=0.0,
            attention_dropout=0.0, seq_classif_dropout=0.0,
        ),
        "mistral": transformers.MistralConfig(**wide),
        "qwen2": transformers.Qwen2Config(**wide),
        "qwen3": transformers.Qwen3Config(**wide),
    }  # fmt: skip


@pytest.mark.parametrize("architecture", ["distilbert", "mistral", "qwen2", "qwen3"])
def test_with_the_head_alone_in_training_all_blocks_are_passed_over(
    architecture: str, texts: Texts
) -> None:
    config = other_architectures()[architecture]
    kind = transformers.AutoModelForTokenClassification
    model = kind.from_config(config).eval()  # the head has dropout
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("score" in name or "classifier" in name)
    batch = {name: texts()[name] for name in ("input_ids", "attention_mask")}

    def losses(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        weights = batch["attention_mask"].unsqueeze(-1)
        return (model(**batch).logits * weights).sum((1, 2))

    loss, cached = with_states(model, losses, batch)
    assert len(frozen_blocks(model, losses, batch).blocks) == 2
    assert torch.allclose(loss(model, cached), losses(model, batch), atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_activation_checkpointing_gives_the_same_gradients(
    architecture: str,
    build: Build,
    texts: Texts,
    losses: PerRecordLoss,
    loop: Callable[..., Gradients],
    error: Callable[[Gradients, Gradients], float],
) -> None:
    model, batch = upper(build, architecture), texts()
    expected = loop(model, batch, losses)
    with warnings.catch_warnings():  # transformers renames it
        warnings.simplefilter("ignore")
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss, cached = with_states(model, losses, batch)
    assert error(Engine(model, loss).raw_gradients(cached), expected) < 1e-9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_below_is_refused(
    architecture: str, build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, architecture, dropout=0.1)
    if architecture == "llama":  # its embeddings have none
        assert 0.1 in [getattr(each, "attention_dropout", 0.0) for each in model.modules()]
    blocks = frozen_blocks(model, losses, texts())
    with pytest.raises(ConfigurationError, match=r"architecture\.dropout=0"):
        blocks.refuse_randomness(losses, texts())
    model.eval()
    blocks.refuse_randomness(losses, texts())


def test_a_loss_that_draws_its_inputs_is_refused(
    build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    def masking(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        hidden = torch.rand(batch["input_ids"].shape) < 0.1
        return losses(model, {**batch, "input_ids": batch["input_ids"].masked_fill(hidden, 1)})

    model = upper(build, "bert")
    with pytest.raises(ConfigurationError, match="nothing random"):
        frozen_blocks(model, masking, texts()).refuse_randomness(masking, texts())


def test_what_is_drawn_above_is_the_same_with_and_without_states(
    build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, "bert")
    model.dropout.p = 0.5  # before the classifier
    loss, cached = with_states(model, losses, texts())
    torch.manual_seed(5)
    expected = losses(model, texts())
    torch.manual_seed(5)
    assert torch.equal(loss(model, cached), expected)


@pytest.mark.parametrize(
    ("trained", "named"),
    [("word_embeddings", "word_embeddings"), ("layer.0.output", "layer.0.output"), ("", "bert")],
)
def test_what_is_trained_below_is_refused_by_name(
    trained: str, named: str, build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, "bert")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or trained in name)
    with pytest.raises(ConfigurationError, match=named):
        frozen_blocks(model, losses, texts())


@pytest.mark.parametrize("method", ["prompt", "prefix", "lora", "ia3"])
def test_a_trained_prompt_is_refused_by_name(
    method: str, prepare: Callable[..., nn.Module], texts: Texts, losses: PerRecordLoss
) -> None:
    model = prepare(method, "gpt2")
    with pytest.raises(ConfigurationError, match=r"prompt_encoder|lora_|ia3_"):
        frozen_blocks(model, losses, texts())


def test_an_embedding_that_is_trained_as_the_head_is_refused(
    build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, "gpt2")
    model.lm_head.weight.requires_grad_(True)  # noqa: FBT003 - torch's own signature
    with pytest.raises(ConfigurationError, match="wte"):
        frozen_blocks(model, losses, texts())


def test_adapters_of_upper_blocks_leave_the_lower_ones_frozen(
    build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], layers_to_transform=[1]
    )
    with warnings.catch_warnings():  # transformers renames what PEFT asks for
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(build("llama", 0.0), config)
    blocks = frozen_blocks(model, losses, texts()).blocks
    assert blocks == (model.get_submodule("base_model.model.model.layers.0"),)


def test_an_unknown_architecture_is_refused() -> None:
    def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return model(batch["x"])

    with pytest.raises(ConfigurationError, match="bert, distilbert, gpt2"):
        frozen_blocks(nn.Linear(2, 1), loss, {"x": torch.ones(2, 2)})


def test_blocks_compute_again_after_an_error(
    build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, "bert")
    loss, cached = with_states(model, losses, texts())
    with pytest.raises(RuntimeError):
        loss(model, {**cached, "raw_frozen_states": torch.ones(1, 1, 3, dtype=torch.double)})
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_loss_that_never_runs_the_blocks_is_refused(
    build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    blocks = frozen_blocks(upper(build, "bert"), losses, texts())
    with pytest.raises(BrokenGuaranteeError, match="run the frozen blocks"):
        blocks.raw_states(lambda _model, batch: batch["labels"], texts())


def test_catching_states_leaves_the_generators_as_they_were(
    build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, "bert", dropout=0.1)
    before = torch.get_rng_state()
    frozen_blocks(model, losses, texts()).raw_states(losses, texts())
    assert torch.equal(torch.get_rng_state(), before)


class Writing(nn.Module):
    """Hands hidden states on, and writes their mean down."""

    def __init__(self, width: int, into: str) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.double))
        self.weight = nn.Parameter(torch.zeros(width, dtype=torch.double), requires_grad=False)
        self.into = into

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            getattr(self, self.into).copy_(hidden.mean((0, 1)))
        return hidden


@pytest.mark.parametrize("into", ["mean", "weight"])
def test_a_frozen_block_that_writes_records_down_is_refused(
    into: str, build: Build, texts: Texts, losses: PerRecordLoss
) -> None:
    model = upper(build, "bert")
    below = model.get_submodule("bert.embeddings.dropout")
    writing = Writing(model.config.hidden_size, into)
    model.bert.embeddings.dropout = nn.Sequential(below, writing)
    blocks = frozen_blocks(model, losses, texts())
    for attempt in (blocks.raw_states, blocks.refuse_randomness):
        with pytest.raises(BrokenGuaranteeError, match=f"write nothing down.*{into}"):
            attempt(losses, texts())
    assert not writing.mean.any()
