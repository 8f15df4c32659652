"""Per-record gradients against a loop over single records, in float64 and float32.

The error is the one the library promises: the largest, over parameters and records, of
|G_b - ref_b| / max(|ref_b of this parameter|, 1e-3 x |whole gradient of record b|).
"""

import functools
import warnings
from collections.abc import Callable, Mapping

import pytest
import torch
from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftConfig,
    PromptTuningConfig,
    get_peft_model,
)
from torch import nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import dpft
from dpft.engine.attachment import PerRecordLoss

Loop = Callable[[nn.Module, Mapping[str, torch.Tensor], PerRecordLoss], dict[str, torch.Tensor]]
Error = Callable[[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], float]
BATCH, TOKENS, VOCABULARY = 5, 9, 100
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
TASK = {"bert": "SEQ_CLS", "gpt2": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM", "llama": "CAUSAL_LM"}
ATTENTION = {
    "bert": ["query", "value"],
    "gpt2": ["c_attn"],
    "t5": ["q", "v"],
    "llama": ["q_proj", "v_proj"],
}
FEED_FORWARD = {
    "bert": ["output.dense"],
    "gpt2": ["mlp.c_proj"],
    "t5": ["wo"],
    "llama": ["down_proj"],
}
NORMS = {
    "bert": ["LayerNorm"],
    "gpt2": ["ln_1", "ln_2", "ln_f"],
    "t5": ["layer_norm", "final_layer_norm"],
    "llama": ["input_layernorm", "post_attention_layernorm", "norm"],
}
HEAD = {"bert": ["classifier"], "gpt2": ["lm_head"], "t5": ["lm_head"], "llama": ["lm_head"]}


def build(architecture: str) -> nn.Module:
    """Return a small random model of an architecture."""
    if architecture == "bert":
        config = BertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            vocab_size=VOCABULARY,
            max_position_embeddings=40,
            num_labels=3,
        )
        return BertForSequenceClassification(config)
    if architecture == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=40)
        return GPT2LMHeadModel(config)
    if architecture == "t5":
        config = T5Config(
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            vocab_size=VOCABULARY,
            decoder_start_token_id=0,
        )
        return T5ForConditionalGeneration(config)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
    )
    return LlamaForCausalLM(config)


def adapter(method: str, architecture: str) -> PeftConfig:
    """Return the PEFT configuration of a method for an architecture."""
    task, attention = TASK[architecture], ATTENTION[architecture]
    feed_forward = FEED_FORWARD[architecture]
    conv1d = architecture == "gpt2"
    lora = functools.partial(
        LoraConfig, task_type=task, target_modules=attention, r=4, fan_in_fan_out=conv1d
    )
    configs: dict[str, Callable[[], PeftConfig]] = {
        "lora": lora,
        "lora_bias": lambda: lora(bias="all"),
        "lora_head": lambda: lora(modules_to_save=HEAD[architecture]),
        "dora": lambda: lora(use_dora=True),
        "ia3": lambda: IA3Config(
            task_type=task,
            target_modules=attention + feed_forward,
            feedforward_modules=feed_forward,
            fan_in_fan_out=conv1d,
        ),
        "prompt": lambda: PromptTuningConfig(task_type=task, num_virtual_tokens=5),
        "layer_norm": lambda: LNTuningConfig(task_type=task, target_modules=NORMS[architecture]),
    }
    return configs[method]()


def prepare(method: str, architecture: str, dtype: torch.dtype) -> nn.Module:
    """Return a model whose trainable parameters are moved away from their initial zeros."""
    torch.manual_seed(1)
    model = build(architecture).to(dtype).eval()
    if method == "bitfit":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
    elif method != "full":
        with warnings.catch_warnings():  # PEFT warns of tied heads and of norms it adapts
            warnings.simplefilter("ignore")
            model = get_peft_model(model, adapter(method, architecture)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def records(batch: int = BATCH, tokens: int = TOKENS) -> dict[str, torch.Tensor]:
    """Return random records, one of them padded."""
    mask = torch.ones(batch, tokens, dtype=torch.long)
    mask[batch // 2, tokens - 3 :] = 0
    return {
        "input_ids": torch.randint(1, VOCABULARY, (batch, tokens)),
        "attention_mask": mask,
        "labels": torch.randint(0, 3, (batch,)),
        "decoder_input_ids": torch.randint(1, VOCABULARY, (batch, 6)),
        "decoder_labels": torch.randint(1, VOCABULARY, (batch, 6)),
    }


def losses(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return one loss a record, whatever the architecture."""
    kind = model.config.model_type
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if kind == "bert":
        return functional.cross_entropy(model(**inputs).logits, batch["labels"], reduction="none")
    if kind == "t5":
        logits = model(**inputs, decoder_input_ids=batch["decoder_input_ids"]).logits
        each = functional.cross_entropy(
            logits.transpose(1, 2), batch["decoder_labels"], reduction="none"
        )
        return each.mean(1)
    logits = model(**inputs).logits[:, -batch["input_ids"].shape[1] :]
    each = functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch["input_ids"][:, 1:], reduction="none"
    )
    weights = batch["attention_mask"][:, 1:].to(each.dtype)
    return (each * weights).sum(1) / weights.sum(1)


METHODS = (
    "lora",
    "lora_bias",
    "lora_head",
    "dora",
    "ia3",
    "prompt",
    "layer_norm",
    "bitfit",
    "full",
)
CASES = [
    pytest.param(method, architecture, id=f"{method}-{architecture}")
    for method in METHODS
    for architecture in TASK
    if not (method == "bitfit" and architecture in ("t5", "llama"))  # they have no biases
]


@pytest.mark.parametrize(("method", "architecture"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_gradients_equal_a_loop_over_single_records(
    method: str, architecture: str, dtype: torch.dtype, loop: Loop, error: Error
) -> None:
    model, batch = prepare(method, architecture, dtype), records()
    expected = loop(model, batch, losses)
    got = dpft.per_record_gradients(model, losses, batch)
    assert error(got, expected) <= TOLERANCE[dtype]
