"""What the tests of adapters share: tiny random models, records, and a loop over records."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers.models.llama import modeling_llama
from transformers.models.t5 import modeling_t5

Tensors = Mapping[str, torch.Tensor]
_WORDS, _TOKENS, _CLASSES = 50, 7, 3
_ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_ENCODERS = ("bert", "roberta", "distilbert", "deberta", "deberta-v2")


def _sizes(architecture: str, dropout: float) -> dict[str, Any]:
    wide = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    wide |= {"intermediate_size": 24, "max_position_embeddings": 24}
    if architecture == "distilbert":
        return {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "dropout": dropout}
    if architecture in _ENCODERS:
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        return {**wide, **rates, "type_vocab_size": 2}
    if architecture == "gpt2":
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        return {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24, **rates, **_ENDS}
    if architecture == "t5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
        return {**sizes, "dropout_rate": dropout, "decoder_start_token_id": 0}
    return {**wide, "num_key_value_heads": 1, "attention_dropout": dropout, **_ENDS}


def _model(architecture: str, dropout: float = 0.0) -> transformers.PreTrainedModel:
    settings = {"vocab_size": _WORDS} | _sizes(architecture, dropout)
    auto: Any = transformers.AutoModelForCausalLM
    if architecture in _ENCODERS:
        auto = transformers.AutoModelForSequenceClassification
        settings["num_labels"] = _CLASSES
    elif architecture == "t5":
        auto = transformers.AutoModelForSeq2SeqLM
    config = transformers.AutoConfig.for_model(architecture, **settings)
    torch.manual_seed(1)
    model = auto.from_config(config, attn_implementation="eager").train(dropout > 0)
    assert isinstance(model, transformers.PreTrainedModel)
    return model


def _stirred(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.1 * noise.to(parameter.dtype))
    return model


def _records(architecture: str, batch: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    mask = torch.ones(batch, _TOKENS, dtype=torch.long)
    mask[batch // 2, _TOKENS - 3 :] = 0
    tensors = {
        "input_ids": torch.randint(3, _WORDS, (batch, _TOKENS), generator=generator),
        "attention_mask": mask,
    }
    if architecture == "t5":
        words = torch.randint(3, _WORDS, (batch, 5), generator=generator)
        tensors["decoder_input_ids"] = words
    return tensors


def _losses(model: nn.Module, batch: Tensors) -> torch.Tensor:
    logits: torch.Tensor = model(**batch).logits
    words = batch.get("decoder_input_ids", batch["input_ids"])
    if logits.dim() == 2:  # a class a record
        return functional.cross_entropy(logits, words[:, 0] % _CLASSES, reduction="none")
    logits = logits[:, -words.shape[1] :].transpose(1, 2)  # virtual tokens come first
    losses: torch.Tensor = functional.cross_entropy(logits, words.roll(-1, 1), reduction="none")
    return losses.mean(1)


def _loop(model: nn.Module, batch: Tensors) -> dict[str, torch.Tensor]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in named}
    for index in range(len(batch["input_ids"])):
        one = {name: value[index : index + 1] for name, value in batch.items()}
        loss = _losses(model, one).sum()
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        for (name, parameter), grad in zip(named.items(), grads, strict=True):
            rows[name].append(torch.zeros_like(parameter) if grad is None else grad)
    return {name: torch.stack(each) for name, each in rows.items()}


def _error(got: Tensors, expected: Tensors) -> float:
    assert got.keys() == expected.keys()
    whole = torch.stack([_norms(ref) for ref in expected.values()]).norm(dim=0)
    gaps = [
        (_norms(got[name] - ref) / torch.maximum(_norms(ref), 1e-3 * whole)).max()
        for name, ref in expected.items()
    ]
    return float(torch.stack(gaps).nan_to_num(nan=torch.inf).max())


def _norms(grads: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = grads.reshape(len(grads), -1).norm(dim=1)
    return norms


@pytest.fixture
def tiny() -> Callable[..., transformers.PreTrainedModel]:
    """Return a maker of tiny random models, the same at every call: (architecture, dropout)."""
    return _model


@pytest.fixture
def stirred() -> Callable[[nn.Module], nn.Module]:
    """Return what moves trainable parameters from where they began, and returns the model."""
    return _stirred


@pytest.fixture
def texts() -> Callable[..., dict[str, torch.Tensor]]:
    """Return a maker of random records, one of them padded: (architecture, batch)."""
    return _records


@pytest.fixture
def losses() -> Callable[[nn.Module, Tensors], torch.Tensor]:
    """Return a loss of one value a record for every architecture."""
    return _losses


@pytest.fixture
def loop() -> Callable[[nn.Module, Tensors], dict[str, torch.Tensor]]:
    """Return per-record gradients by one backward pass a record."""
    return _loop


@pytest.fixture
def gradient_error() -> Callable[[Tensors, Tensors], float]:
    """Return max |G_b - ref_b| / max(|ref_b|, 1e-3 |whole ref_b|) over parameters and records."""
    return _error


# What the three modules on ATTEMPT share.


def _in_double(base: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    if base.config.model_type == "llama":
        base.set_attn_implementation("sdpa")
    return base.double()


def _attempt_on(base: transformers.PreTrainedModel, **options: Any) -> Any:
    from dpft import adapters  # late, as below: other modules test what no import brings along

    return adapters.build("attempt", base, **options)


def _adapted(architecture: str, **options: Any) -> Any:
    from peft import PeftModel, get_peft_model

    from dpft.adapters.attempt import AttemptConfig
    from dpft.adapters.targets import task_type_of

    base = _in_double(_model(architecture))
    settings = {"num_virtual_tokens": 3, "bottleneck": 5, "temperature": 4.0}
    options = {"task_type": task_type_of(base)} | settings | options
    model = get_peft_model(base, AttemptConfig(**options))
    assert isinstance(_stirred(model.double()), PeftModel)
    return model.eval()


def _attempt_parts(model: nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, tensor in model.named_parameters():
        if ".dpft_attempt_" in name:
            found[name.split(".dpft_attempt_")[1].replace(".default", "")] = tensor
    return found


def _without_cache(model: nn.Module, batch: Tensors, **tasks: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits = model(**batch, **tasks).logits
    assert isinstance(logits, torch.Tensor)
    return logits


@pytest.fixture
def norms_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let T5 and Llama normalise in the precision of the model: theirs is single, whatever it is.

    A difference in the last digit of a double would then grow to one of 1e-8. Llama's attention
    written out is single too, so that `in_double` takes the other one.
    """

    def normalise(self: Any, states: torch.Tensor) -> torch.Tensor:
        mean = states.pow(2).mean(-1, keepdim=True)
        scaled = self.weight * states * torch.rsqrt(mean + self.variance_epsilon)
        return torch.as_tensor(scaled)

    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", normalise)
    monkeypatch.setattr(modeling_t5.T5LayerNorm, "forward", normalise)


@pytest.fixture
def in_double() -> Callable[[transformers.PreTrainedModel], transformers.PreTrainedModel]:
    """Return what turns a tiny model to double precision, its attention too."""
    return _in_double


@pytest.fixture
def adapted() -> Callable[..., Any]:
    """Return a maker of tiny models with ATTEMPT, moved from where it began, in double."""
    return _adapted


@pytest.fixture
def build() -> Callable[..., Any]:
    """Return what puts ATTEMPT on a model as a user does: (model, options)."""
    return _attempt_on


@pytest.fixture
def parts() -> Callable[[nn.Module], dict[str, torch.Tensor]]:
    """Return what finds the parameters of ATTEMPT in a model, by their short names."""
    return _attempt_parts


@pytest.fixture
def without_cache() -> Callable[..., torch.Tensor]:
    """Return what computes logits in one call, without gradients: (model, batch, tasks)."""
    return _without_cache
