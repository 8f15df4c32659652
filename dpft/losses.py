"""Per-record losses: callables (model, batch) -> losses [B].

Each entry is a function of its own record only: tokens are averaged over the record's own ones.
Hugging Face's `outputs.loss` is a mean over all tokens of the batch, couples records and is not
used. Shapes: B records, T tokens, C classes, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping
from enum import Enum

import torch
from torch import nn
from torch.nn import functional

__all__ = [
    "CausalLanguageModelling",
    "Classification",
    "Pooling",
    "Regression",
    "SequenceToSequence",
    "classification_logits",
]

_Batch = Mapping[str, torch.Tensor]
_IGNORED = -100  # label of tokens that carry no loss, as in transformers


class Pooling(str, Enum):
    """How a record's class scores come about.

    `head`: the model's own sequence-classification head. `mean`: a token-classification head whose
    scores are averaged over the record's own tokens; the head is linear, so this is mean pooling.
    """

    HEAD = "head"
    MEAN = "mean"


def classification_logits(model: nn.Module, batch: _Batch, pooling: Pooling) -> torch.Tensor:
    """Return class scores [B, C].

    Args:
        model: A sequence-classification (head) or token-classification (mean) model.
        batch: `input_ids`, `attention_mask` [B, T] and what else the model takes; no labels.
        pooling: How scores come about.

    Privacy:
        Each row depends on its own record only; padding carries no weight
        (`tests/dpft/test_losses.py`).
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits: torch.Tensor = model(**inputs).logits
    if pooling is Pooling.HEAD:
        return logits
    weights = batch["attention_mask"].to(logits.dtype).unsqueeze(-1)
    logits = logits[:, -weights.shape[1] :]  # those of a soft prompt come first, and are nobody's
    return (logits * weights).sum(1) / weights.sum(1)


@dataclasses.dataclass(frozen=True)
class Classification:
    """Cross-entropy of one label a record.

    Args:
        pooling: How class scores come about.

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`).
    """

    pooling: Pooling = Pooling.HEAD

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B] of class numbers."""
        logits = classification_logits(model, batch, self.pooling)
        return functional.cross_entropy(logits, batch["labels"], reduction="none")


@dataclasses.dataclass(frozen=True)
class Regression:
    """Squared error of one score a record, from a model with one output.

    Args:
        pooling: How the score comes about.

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`).
    """

    pooling: Pooling = Pooling.HEAD

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B] of real numbers."""
        scores = classification_logits(model, batch, self.pooling).squeeze(-1)
        return (scores - batch["labels"].to(scores.dtype)).square()


@dataclasses.dataclass(frozen=True)
class CausalLanguageModelling:
    """Next-token cross-entropy, averaged over the record's own labelled tokens.

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`).
    """

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B, T], -100 where a token carries no loss."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**inputs).logits
        return _token_mean(logits, _next_tokens(batch["labels"], logits.shape[1]))


@dataclasses.dataclass(frozen=True)
class SequenceToSequence:
    """Cross-entropy of the target of an encoder-decoder, averaged over the record's own tokens.

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`).
    """

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B, T], -100 where a token carries no loss."""
        return _token_mean(model(**batch).logits, batch["labels"])


def _next_tokens(labels: torch.Tensor, length: int) -> torch.Tensor:
    """Return what each of `length` positions is to predict; a soft prompt's predict nothing.

    Labels are shifted and not logits: slices of logits would be copied, which took longer than
    the loss itself.
    """
    targets = labels.new_full((len(labels), length), _IGNORED)
    targets[:, length - labels.shape[1] : -1] = labels[:, 1:]
    return targets


def _token_mean(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy [B], averaged over each record's own targets [B, T]."""
    each = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=_IGNORED
    ).view(targets.shape)
    counted = (targets != _IGNORED).sum(1).clamp(min=1)  # a record without a target has loss zero
    return each.sum(1) / counted
