"""What tests of gradients share: small real models with adapters, and a loop over records."""

import functools
import warnings
from collections.abc import Callable, Mapping

import peft
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from dpft.engine.attachment import PerRecordLoss

Gradients = Mapping[str, torch.Tensor]
_VOCABULARY, _CLASSES, _TARGET_TOKENS = 50, 3, 5
_ENCODERS = ("bert", "roberta")
_TASK = {
    "bert": "SEQ_CLS",
    "roberta": "SEQ_CLS",
    "gpt2": "CAUSAL_LM",
    "t5": "SEQ_2_SEQ_LM",
    "llama": "CAUSAL_LM",
}
_ATTENTION = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "gpt2": ["c_attn"],
    "t5": ["q", "v"],
    "llama": ["q_proj", "v_proj"],
}
_FEED_FORWARD = {
    "bert": ["output.dense"],
    "roberta": ["output.dense"],
    "gpt2": ["mlp.c_proj"],
    "t5": ["wo"],
    "llama": ["down_proj"],
}
_NORMS = {
    "bert": ["LayerNorm"],
    "roberta": ["LayerNorm"],
    "gpt2": ["ln_1", "ln_2", "ln_f"],
    "t5": ["layer_norm", "final_layer_norm"],
    "llama": ["input_layernorm", "post_attention_layernorm", "norm"],
}
_HEAD = {
    "bert": ["classifier"],
    "roberta": ["classifier"],
    "gpt2": ["lm_head"],
    "t5": ["lm_head"],
    "llama": ["lm_head"],
}
_EMBEDDINGS = {
    "bert": ["word_embeddings"],
    "roberta": ["word_embeddings"],
    "gpt2": ["wte"],
    "t5": ["embed_tokens"],
    "llama": ["embed_tokens"],
}


def _build(architecture: str, dropout: float) -> nn.Module:
    sizes = {"vocab_size": _VOCABULARY}
    wide = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    if architecture in _ENCODERS:
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        settings = {**sizes, **wide, **rates, "intermediate_size": 24, "num_labels": _CLASSES}
        if architecture == "bert":
            config = transformers.BertConfig(**settings, max_position_embeddings=24)
            return transformers.BertForSequenceClassification(config)
        config = transformers.RobertaConfig(**settings, max_position_embeddings=24)
        return transformers.RobertaForSequenceClassification(config)
    if architecture == "gpt2":
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        config = transformers.GPT2Config(
            **sizes, **rates, n_embd=16, n_layer=2, n_head=2, n_positions=24
        )
        return transformers.GPT2LMHeadModel(config)
    if architecture == "t5":
        config = transformers.T5Config(
            **sizes,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
            dropout_rate=dropout,
        )
        return transformers.T5ForConditionalGeneration(config)
    config = transformers.LlamaConfig(
        **sizes, **wide, intermediate_size=24, num_key_value_heads=1, attention_dropout=dropout
    )
    return transformers.LlamaForCausalLM(config)


def _adapter(method: str, architecture: str) -> peft.PeftConfig:
    task, attention = _TASK[architecture], _ATTENTION[architecture]
    feed_forward, conv1d = _FEED_FORWARD[architecture], architecture == "gpt2"
    lora = functools.partial(
        peft.LoraConfig, task_type=task, target_modules=attention, r=4, fan_in_fan_out=conv1d
    )
    tokens = {"task_type": task, "num_virtual_tokens": 3}
    configs: dict[str, Callable[[], peft.PeftConfig]] = {
        "lora": lora,
        "rslora": lambda: lora(use_rslora=True),
        "dora": lambda: lora(use_dora=True),
        "lora_bias": lambda: lora(bias="all"),
        "lora_head": lambda: lora(modules_to_save=_HEAD[architecture]),
        "lora_embedding": lambda: lora(target_modules=attention + _EMBEDDINGS[architecture]),
        "ia3": lambda: peft.IA3Config(
            task_type=task,
            target_modules=attention + feed_forward,
            feedforward_modules=feed_forward,
            fan_in_fan_out=conv1d,
        ),
        "prompt": lambda: peft.PromptTuningConfig(**tokens),
        "p_tuning": lambda: peft.PromptEncoderConfig(**tokens, encoder_hidden_size=6),
        "p_tuning_lstm": lambda: peft.PromptEncoderConfig(
            **tokens,
            encoder_hidden_size=6,
            encoder_reparameterization_type="LSTM",
            encoder_num_layers=2,
        ),
        "prefix": lambda: peft.PrefixTuningConfig(**tokens),
        "prefix_projection": lambda: peft.PrefixTuningConfig(
            **tokens, prefix_projection=True, encoder_hidden_size=6
        ),
        "layer_norm": lambda: peft.LNTuningConfig(
            task_type=task, target_modules=_NORMS[architecture]
        ),
        "vera": lambda: peft.VeraConfig(
            task_type=task, target_modules=attention, r=4, fan_in_fan_out=conv1d
        ),
        "lokr": lambda: peft.LoKrConfig(task_type=task, target_modules=attention, r=2),
        "loha": lambda: peft.LoHaConfig(task_type=task, target_modules=attention, r=2),
        "adalora": lambda: peft.AdaLoraConfig(
            task_type=task,
            target_modules=attention,
            init_r=4,
            target_r=2,
            total_step=10,
            fan_in_fan_out=conv1d,
        ),
    }
    return configs[method]()


def _prepare(
    method: str, architecture: str, dtype: torch.dtype = torch.float64, dropout: float = 0.0
) -> nn.Module:
    torch.manual_seed(1)
    model = _build(architecture, dropout).to(dtype)
    if method == "bitfit":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
    elif method != "full":
        with warnings.catch_warnings():  # PEFT warns of tied heads and of norms it adapts
            warnings.simplefilter("ignore")
            model = peft.get_peft_model(model, _adapter(method, architecture)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.train(dropout > 0)


def _records(batch: int = 4, tokens: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    words = functools.partial(torch.randint, 2, _VOCABULARY, generator=generator)
    mask = torch.ones(batch, tokens, dtype=torch.long)
    mask[batch // 2, tokens - 3 :] = 0
    return {
        "input_ids": words((batch, tokens)),
        "attention_mask": mask,
        "labels": torch.randint(0, _CLASSES, (batch,), generator=generator),
        "decoder_input_ids": words((batch, _TARGET_TOKENS)),
        "decoder_labels": words((batch, _TARGET_TOKENS)),
    }


def _losses(model: nn.Module, batch: Gradients) -> torch.Tensor:
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    kind = model.config.model_type
    if kind in _ENCODERS:
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


def _loop(model: nn.Module, batch: Gradients, loss: PerRecordLoss) -> dict[str, torch.Tensor]:
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in named}
    for index in range(len(next(iter(batch.values())))):
        one = {name: value[index : index + 1] for name, value in batch.items()}
        grads = torch.autograd.grad(loss(model, one).sum(), list(named.values()), allow_unused=True)
        for (name, parameter), grad in zip(named.items(), grads, strict=True):
            rows[name].append(torch.zeros_like(parameter) if grad is None else grad)
    return {name: torch.stack(each) for name, each in rows.items()}


def _error(got: Gradients, expected: Gradients) -> float:
    assert got.keys() == expected.keys()
    whole = torch.stack([_norms(ref) for ref in expected.values()]).norm(dim=0)
    gaps = [
        (_norms(got[name].double() - ref.double()) / torch.maximum(_norms(ref), 1e-3 * whole)).max()
        for name, ref in expected.items()
    ]
    return float(torch.stack(gaps).nan_to_num(nan=torch.inf).max())


def _norms(grads: torch.Tensor) -> torch.Tensor:
    return grads.double().reshape(len(grads), -1).norm(dim=1)


@pytest.fixture
def prepare() -> Callable[..., nn.Module]:
    """Return a builder of small models: (method, architecture, dtype, dropout) -> model.

    Trainable parameters are moved away from their initial zeros; a dropout above zero also puts
    the model into train mode.
    """
    return _prepare


@pytest.fixture
def adapter() -> Callable[[str, str], peft.PeftConfig]:
    """Return the maker of PEFT configurations: (method, architecture) -> configuration."""
    return _adapter


@pytest.fixture
def build() -> Callable[[str, float], nn.Module]:
    """Return the maker of bare models: (architecture, dropout) -> model."""
    return _build


@pytest.fixture
def texts() -> Callable[..., dict[str, torch.Tensor]]:
    """Return a maker of random records, one of them padded: (batch, tokens) -> tensors."""
    return _records


@pytest.fixture
def losses() -> PerRecordLoss:
    """Return a loss of one value a record for every architecture."""
    return _losses


@pytest.fixture
def loop() -> Callable[[nn.Module, Gradients, PerRecordLoss], dict[str, torch.Tensor]]:
    """Return per-record gradients by one backward pass a record."""
    return _loop


@pytest.fixture
def error() -> Callable[[Gradients, Gradients], float]:
    """Return max |G_b - ref_b| / max(|ref_b|, 1e-3 |whole ref_b|) over parameters and records."""
    return _error
