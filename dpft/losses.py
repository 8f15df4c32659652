"""Per-record losses: callables (model, batch) -> losses [B].

Each entry is a function of its own record only: tokens are averaged over the record's own ones.
Hugging Face's `outputs.loss` is a mean over all tokens of the batch, couples records and is not
used. Shapes: B records, T tokens, C classes or choices, L tokens of a choice, V vocabulary.
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
    "Infilling",
    "Pooling",
    "RankedChoices",
    "Regression",
    "SequenceToSequence",
    "classification_logits",
]

_Batch = Mapping[str, torch.Tensor]
_IGNORED = -100  # label of tokens that carry no loss, as in transformers
_ALMOST_ONE = 1 - 1e-6


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

    Args:
        label_smoothing: Share of the target that is spread over the vocabulary, in [0, 1).

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`).
    """

    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B, T], -100 where a token carries no loss."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**inputs).logits
        targets = _next_tokens(batch["labels"], logits.shape[1])
        return _token_mean(logits, targets, self.label_smoothing)


@dataclasses.dataclass(frozen=True)
class SequenceToSequence:
    """Cross-entropy of the target of an encoder-decoder, averaged over the record's own tokens.

    Args:
        label_smoothing: Share of the target that is spread over the vocabulary, in [0, 1).

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`).
    """

    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B, T], -100 where a token carries no loss."""
        return _token_mean(model(**batch).logits, batch["labels"], self.label_smoothing)


@dataclasses.dataclass(frozen=True)
class Infilling:
    """Cross-entropy of the word that fills the one mask of a record, among the words of classes.

    Args:
        label_tokens: For each class in order, the token of its word.
        mask_token: Token of the mask; it stands in every record exactly once.

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`).

    References:
        Li et al. 2022 (2110.05679), section 3.1 (text infilling); templates and words after Gao et
        al. 2021, "LM-BFF" (2012.15723), equation 1.
    """

    label_tokens: tuple[int, ...]
    mask_token: int

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B] of class numbers."""
        return functional.cross_entropy(
            self.logits(model, batch), batch["labels"], reduction="none"
        )

    def logits(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return the scores [B, C] of the words at the mask.

        Args:
            model: A masked language model.
            batch: `input_ids` [B, T] and what else the model takes; labels are not looked at.

        Privacy:
            Each row depends on its own record only (`tests/dpft/test_losses.py`).
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        scores_BTC: torch.Tensor = model(**inputs).logits[..., list(self.label_tokens)]
        at_mask_BT = (batch["input_ids"] == self.mask_token).to(scores_BTC.dtype)
        return (scores_BTC * at_mask_BT.unsqueeze(-1)).sum(1)


@dataclasses.dataclass(frozen=True)
class RankedChoices:
    """The three losses of T-Few for a record whose answer is one of some public choices.

    With beta_c the log-probability of choice c, averaged over its tokens: the sum of the mean
    log-likelihood loss -beta_y, the unlikelihood loss, which is the mean of -log(1 - p) over all
    tokens of the wrong choices, and the length-normalised loss -log softmax(beta)_y.

    Args:
        choices: For each class in order, the tokens of its answer, end token included; at least
            one token each and two classes.
        unlikelihood: Weight of the unlikelihood loss, >= 0.
        length_normalised: Weight of the length-normalised loss, >= 0.

    Privacy:
        Loss b depends on record b only (`tests/dpft/test_losses.py`); the choices are public.

    References:
        Liu et al. 2022 (2205.05638), equations 1 to 3; both weights are one in the paper.
    """

    choices: tuple[tuple[int, ...], ...]
    unlikelihood: float = 1.0
    length_normalised: float = 1.0

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B] of class numbers."""
        each = self._token_log_probabilities(model, batch)
        scores_BC = torch.stack([tokens_BL.mean(1) for tokens_BL in each], dim=1)
        right_BC = functional.one_hot(batch["labels"], len(each)).to(scores_BC.dtype)
        likelihood = -(scores_BC * right_BC).sum(1)
        normalised = -(scores_BC.log_softmax(1) * right_BC).sum(1)
        unlikely = self._unlikelihood(each, 1 - right_BC)
        return likelihood + self.unlikelihood * unlikely + self.length_normalised * normalised

    def logits(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return the length-normalised log-probabilities [B, C] that choices are ranked by.

        Args:
            model: An encoder-decoder.
            batch: `input_ids`, `attention_mask` [B, T]; labels are not looked at.

        Privacy:
            Each row depends on its own record only (`tests/dpft/test_losses.py`).
        """
        each = self._token_log_probabilities(model, batch)
        return torch.stack([tokens_BL.mean(1) for tokens_BL in each], dim=1)

    def _token_log_probabilities(self, model: nn.Module, batch: _Batch) -> list[torch.Tensor]:
        """Return for each choice the log-probabilities [B, L] of its tokens."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        found = []
        for choice in self.choices:
            labels_BL = batch["input_ids"].new_tensor([choice] * len(batch["input_ids"]))
            logits_BLV = model(**inputs, labels=labels_BL).logits
            log_probs = logits_BLV.float().log_softmax(-1)
            found.append(log_probs.gather(-1, labels_BL.unsqueeze(-1)).squeeze(-1))
        return found

    def _unlikelihood(self, each: list[torch.Tensor], wrong_BC: torch.Tensor) -> torch.Tensor:
        """Return -log(1 - p) [B], averaged over the tokens of wrong choices."""
        # 1 - p would be 0 where p rounds to 1: log1p(-p) of a p kept below it stays finite
        sums_BC = torch.stack(
            [-torch.log1p(-tokens_BL.exp().clamp(max=_ALMOST_ONE)).sum(1) for tokens_BL in each], 1
        )
        lengths_C = wrong_BC.new_tensor([len(choice) for choice in self.choices])
        return (sums_BC * wrong_BC).sum(1) / (lengths_C * wrong_BC).sum(1)


def _next_tokens(labels: torch.Tensor, length: int) -> torch.Tensor:
    """Return what each of `length` positions is to predict; a soft prompt's predict nothing.

    Labels are shifted and not logits: slices of logits would be copied, which took longer than
    the loss itself.
    """
    targets = labels.new_full((len(labels), length), _IGNORED)
    targets[:, length - labels.shape[1] : -1] = labels[:, 1:]
    return targets


def _token_mean(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """Return cross-entropy [B], averaged over each record's own targets [B, T]."""
    each = functional.cross_entropy(
        logits.flatten(0, 1),
        targets.flatten(),
        reduction="none",
        ignore_index=_IGNORED,
        label_smoothing=label_smoothing,
    ).view(targets.shape)
    counted = (targets != _IGNORED).sum(1).clamp(min=1)  # a record without a target has loss zero
    return each.sum(1) / counted
