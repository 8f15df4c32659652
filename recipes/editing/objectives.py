"""What a vector is trained for: labels, their opposite, or the words of a text.

Every loss is a function of its own record, so that clipping bounds what a record may change.
Shapes: B records, T tokens, D width, V words.
"""

import dataclasses
from collections.abc import Mapping
from enum import Enum

import torch
from torch import nn
from torch.nn import functional

from dpft.losses import Classification, Pooling, classification_logits

__all__ = ["Ascent", "BagOfWords", "Objective", "word_embeddings"]

_Batch = Mapping[str, torch.Tensor]
_SHARPNESS = 20.0  # spread of the logits of a unit state


class Objective(str, Enum):
    """What is learnt: the `labels`, their opposite (`ascent`), or the `words` of texts."""

    ASCENT = "ascent"
    LABELS = "labels"
    WORDS = "words"


@dataclasses.dataclass(frozen=True)
class Ascent:
    """Cross-entropy, negated: its descent is gradient ascent on the labels.

    Args:
        pooling: How class scores come about.

    Privacy:
        Loss b depends on record b only (`test_every_loss_depends_on_its_own_record_alone`).

    References:
        Ilharco et al. 2023 (2212.04089), section 3, the baseline "gradient ascent".
    """

    pooling: Pooling = Pooling.MEAN

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; `labels` is [B] of class numbers."""
        return -Classification(self.pooling)(model, batch)


@dataclasses.dataclass(frozen=True, eq=False)
class BagOfWords:
    """Predict the words of a text from its mean state, through frozen word embeddings.

    The loss is -1/|w| sum_w log softmax(s e_w . h / |h|) over the words w of the record that are in
    the vocabulary, e_w of unit length. Contrastive losses would compare records with each other.

    Args:
        words: [V, D], centred word embeddings of unit length; row v belongs to token `first` + v.
        first: First token of the vocabulary.

    Privacy:
        Loss b depends on record b only (`test_every_loss_depends_on_its_own_record_alone`).
    """

    words: torch.Tensor
    first: int

    def __call__(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return losses [B]; the model's head passes its states through."""
        states_BD = classification_logits(model, batch, Pooling.MEAN)
        logits_BV = _SHARPNESS * functional.normalize(states_BD, dim=-1) @ self.words.T
        places_BT = batch["input_ids"] - self.first
        known_BT = (places_BT >= 0) & (places_BT < len(self.words))
        known_BT &= batch["attention_mask"].bool()
        chosen_BT = logits_BV.log_softmax(-1).gather(1, places_BT.clamp(0, len(self.words) - 1))
        counted_B = known_BT.sum(1).clamp(min=1)  # a record without a known word has loss zero
        return -(chosen_BT * known_BT).sum(1) / counted_B


def word_embeddings(table_ND: torch.Tensor, first: int, count: int) -> BagOfWords:
    """Make the objective of a model's own input embeddings.

    Args:
        table_ND: The embeddings of all tokens; they are copied.
        first: First token of the vocabulary.
        count: Number of tokens that are predicted.

    Returns:
        The objective.

    Privacy:
        Nothing, no data touched: weights of the public base model.
    """
    words_VD = table_ND[first : first + count].detach().clone()
    centred_VD = words_VD - words_VD.mean(0)
    return BagOfWords(functional.normalize(centred_VD, dim=-1), first)
