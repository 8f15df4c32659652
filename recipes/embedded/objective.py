"""What the encoder is asked: hidden words, and the words of a hidden sentence. No labels.

From every public text one sentence is taken out. Of the rest a share of the tokens is hidden, and
predicted in place (masked language modelling); the words of the sentence taken out are predicted
from the mean of the hidden states and from the pooler. So a single vector must say what a message
is about. May be imported by `pretraining.py`.

Legend: B texts, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dpft.recipes.embedded.encoder import Pretrainer, mean_pool
from dpft.recipes.embedded.tokenizer import MAX_TOKENS, SPECIAL_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PublicBatch", "TokenisedText", "make_batch", "objective", "word_weights"]

_HIDDEN_SHARE = 0.15
_LAST_SHARE = 0.7  # later sentences follow from earlier ones more than the other way round
_PAD, _CLS, _SEP, _MASK = (SPECIAL_TOKENS.index(f"[{n}]") for n in ("PAD", "CLS", "SEP", "MASK"))
_IGNORED = -100


class TokenisedText(NamedTuple):
    """A public text as tokens.

    Args:
        lines: The tokens of each sentence, in order.
        removable: Which sentences may be taken out, ascending; empty where one alone would be
            left without anything to tell it from.

    Privacy:
        Nothing private: public text alone.
    """

    lines: list[list[int]]
    removable: list[int]


class PublicBatch(NamedTuple):
    """One step's texts.

    Args:
        input_ids: Tokens, some of them hidden, [B, T].
        attention_mask: 1 at real tokens, [B, T].
        hidden_labels: The token that was hidden, -100 elsewhere, [B, T].
        sentence_words: Distribution over the words of the sentence taken out, [B, V]; zero where
            none was.

    Privacy:
        Nothing private: public text alone.
    """

    input_ids: Tensor
    attention_mask: Tensor
    hidden_labels: Tensor
    sentence_words: Tensor


def word_weights(texts: Sequence[TokenisedText], vocabulary: int) -> np.ndarray:
    """Weigh words by one over the square root of their frequency.

    Args:
        texts: The corpus, one list of tokens for each sentence of each text.
        vocabulary: Number of tokens.

    Returns:
        Weights, [V]; without them full stops and articles would rule the sentence objective.

    Privacy:
        Nothing private: public text alone.
    """
    flat = np.fromiter((i for text in texts for line in text.lines for i in line), dtype=np.int64)
    weights_V: np.ndarray = 1.0 / np.sqrt(1.0 + np.bincount(flat, minlength=vocabulary))
    return weights_V


def make_batch(
    texts: Sequence[TokenisedText], weights_V: np.ndarray, random: np.random.Generator
) -> PublicBatch:
    """Take out sentences and hide tokens.

    Args:
        texts: The texts of one step.
        weights_V: What `word_weights` gave.
        random: Source of randomness.

    Returns:
        The batch.

    Privacy:
        Nothing private: public text alone.
    """
    cut = [_take_out(text, random) for text in texts]
    lengths = [len(rest) for rest, _ in cut]
    ids_BT = np.full((len(texts), max(lengths)), _PAD)
    words_BV = np.zeros((len(texts), len(weights_V)), dtype=np.float32)
    for row, (rest, taken) in enumerate(cut):
        ids_BT[row, : len(rest)] = rest
        np.add.at(words_BV[row], taken, weights_V[taken])
    words_BV /= np.maximum(words_BV.sum(1, keepdims=True), 1e-12)
    hidden_BT = _hide(ids_BT, len(weights_V), random)
    labels_BT = np.where(hidden_BT == ids_BT, _IGNORED, ids_BT)
    mask_BT = (ids_BT != _PAD).astype(np.int64)
    return PublicBatch(*map(torch.from_numpy, (hidden_BT, mask_BT, labels_BT, words_BV)))


def objective(model: Pretrainer, batch: PublicBatch) -> tuple[Tensor, Tensor]:
    """Compute the two losses.

    Args:
        model: Encoder and heads.
        batch: What `make_batch` gave.

    Returns:
        Mean loss of the hidden tokens and of the sentences taken out, both in nats.

    Privacy:
        Nothing private: public text alone.

    References:
        Devlin et al. 2019, "BERT", section 3.1 (masked words). The sentence part is ours, in the
        spirit of Kiros et al. 2015, "Skip-Thought Vectors": a bag of words instead of a decoder.
    """
    out = model.encoder(batch.input_ids, attention_mask=batch.attention_mask)
    places = batch.hidden_labels != _IGNORED
    logits = model.token_logits(out.last_hidden_state[places])
    token_loss = F.cross_entropy(logits, batch.hidden_labels[places])
    pooled = mean_pool(out.last_hidden_state, batch.attention_mask)
    both = torch.cat([pooled, out.pooler_output])
    log_probs = F.log_softmax(model.sentence_logits(both), dim=-1)
    words = torch.cat([batch.sentence_words, batch.sentence_words])
    return token_loss, -(words * log_probs).sum() / words.sum().clamp_min(1.0)


def _take_out(text: TokenisedText, random: np.random.Generator) -> tuple[list[int], list[int]]:
    taken: list[int] = []
    left = text.lines
    if text.removable:
        last = random.random() < _LAST_SHARE
        place = text.removable[-1] if last else int(random.choice(text.removable))
        taken, left = left[place], left[:place] + left[place + 1 :]
    rest = [i for line in left for i in line][: MAX_TOKENS - 2]
    return [_CLS, *rest, _SEP], taken


def _hide(ids_BT: np.ndarray, vocabulary: int, random: np.random.Generator) -> np.ndarray:
    ordinary = ids_BT >= len(SPECIAL_TOKENS)
    chosen = ordinary & (random.random(ids_BT.shape) < _HIDDEN_SHARE)
    swapped = random.integers(len(SPECIAL_TOKENS), vocabulary, ids_BT.shape)
    fill = np.where(random.random(ids_BT.shape) < 0.9, _MASK, swapped)
    return np.where(chosen, fill, ids_BT)
