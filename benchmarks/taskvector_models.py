"""Base models of the exactness table, and the batches on which they are compared.

MiniLM comes from `$DPFT_ASSETS/models/minilm-l6`: the first two of its layers, and the embeddings
of its first 1,024 words, since the probe has no others. Without it, and for the other
architectures, weights are random.
"""

import dataclasses
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

__all__ = ["Base", "Probe", "model_of", "outputs_of", "probe_for"]

_LAYERS, _WORDS, _SMALL_WORDS = 2, 1024, 100
_RECORDS, _TOKENS = 4, 8
_SEED = 20_261_121
_FLOAT32_NORMS = {"LlamaRMSNorm", "T5LayerNorm"}
_SPREAD = 0.1  # of random weights and biases: far from a fresh start, where biases are zero
_BERT: dict[str, Any] = {
    "num_hidden_layers": _LAYERS,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
_LABELS = {0: "bad", 1: "fair", 2: "good"}
_SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
_GPT2: dict[str, Any] = {
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "tie_word_embeddings": False,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_T5: dict[str, Any] = {
    "d_model": 64,
    "d_ff": 96,
    "d_kv": 16,
    "num_heads": 4,
    "num_layers": 2,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}


class Base(str, Enum):
    """Base models, as the table names them."""

    MINILM = "MiniLM"
    CLASSIFIER = "MiniLM, classifier"
    GPT2 = "GPT-2, tiny"
    T5 = "T5, tiny"
    LLAMA = "Llama, tiny"


Probe = Mapping[str, torch.Tensor]
"""A batch of random words, as the model takes it."""


class _Norm(nn.Module):
    """RMS norm of Llama and T5 in the type of its input; theirs computes in float32 always."""

    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        square = hidden.pow(2).mean(-1, keepdim=True)
        return self.weight * hidden * torch.rsqrt(square + self.variance_epsilon)


@dataclasses.dataclass(frozen=True)
class _Random:
    """How a model with random weights is made."""

    config: Any
    model: Any
    fields: Mapping[str, Any]

    def build(self) -> nn.Module:
        torch.manual_seed(_SEED)
        made: nn.Module = self.model(self.config(vocab_size=_SMALL_WORDS, **self.fields))
        for module in made.modules():
            if type(module).__name__ in _FLOAT32_NORMS:
                module.__class__ = _Norm
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(_SPREAD * torch.randn_like(parameter))
        return made.eval()


_RANDOM = {
    Base.GPT2: _Random(transformers.GPT2Config, transformers.GPT2LMHeadModel, _GPT2),
    Base.T5: _Random(transformers.T5Config, transformers.T5ForConditionalGeneration, _T5),
    Base.LLAMA: _Random(transformers.LlamaConfig, transformers.LlamaForCausalLM, _SMALL),
}


def model_of(base: Base, *, quick: bool = False) -> nn.Module:
    """Return a base model in float32, the same at every call.

    Args:
        base: Which one.
        quick: Whether a tiny random encoder stands for MiniLM, as in tests.

    Privacy:
        Nothing, no data touched: public or random weights.
    """
    return _RANDOM[base].build() if base in _RANDOM else _encoder(base, quick=quick)


def probe_for(base: Base) -> Probe:
    """Return a batch of random words.

    Args:
        base: The model that will take it.

    Privacy:
        Nothing, no data touched: random words from a fixed public seed.
    """
    generator = torch.Generator().manual_seed(_SEED)
    words_BT = torch.randint(3, _SMALL_WORDS, (_RECORDS, _TOKENS), generator=generator)
    probe = {"input_ids": words_BT, "attention_mask": torch.ones_like(words_BT)}
    if base is Base.T5:
        return {**probe, "decoder_input_ids": words_BT.flip(1)}
    return probe


def outputs_of(made: Any) -> torch.Tensor:
    """Return logits, or the hidden states of a bare encoder, in float64.

    Args:
        made: What the model returned.

    Privacy:
        Nothing, no data touched.
    """
    found: torch.Tensor = made.logits if hasattr(made, "logits") else made.last_hidden_state
    return found.detach().double()


def _encoder(base: Base, *, quick: bool) -> nn.Module:
    torch.manual_seed(_SEED)
    is_classifier = base is Base.CLASSIFIER
    kind: Any = transformers.BertForSequenceClassification
    kind = kind if is_classifier else transformers.BertModel
    given: dict[str, Any] = {"id2label": _LABELS, "label2id": {v: k for k, v in _LABELS.items()}}
    assets = os.environ.get("DPFT_ASSETS")
    if assets and not quick:
        made = kind.from_pretrained(
            Path(assets, "models", "minilm-l6"), num_hidden_layers=_LAYERS, **given
        )
        made.resize_token_embeddings(_WORDS)
    else:
        made = kind(
            transformers.BertConfig(vocab_size=_WORDS, **(_SMALL if quick else _BERT), **given)
        )
    made.config.name_or_path = "minilm"
    return made.float().eval()  # type: ignore[no-any-return]  # the file's weights may be halves
