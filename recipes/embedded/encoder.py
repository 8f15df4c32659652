"""The encoder to pretrain: a BERT of ordinary build, and the two heads of its objective.

May be imported by `pretraining.py` and `pretrain.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from dpft.recipes.embedded.tokenizer import MAX_TOKENS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EncoderSize", "Pretrainer", "mean_pool", "save_encoder"]


@dataclass(frozen=True)
class EncoderSize:
    """Size of the encoder.

    Args:
        layers: Number of layers, at least 1.
        hidden: Width of the hidden states, a multiple of `heads`.
        heads: Number of attention heads.
        intermediate: Width of the feed-forward part.
        vocabulary: Number of tokens asked of the tokenizer.

    Privacy:
        Nothing, no data touched.
    """

    layers: int = 3
    hidden: int = 128
    heads: int = 4
    intermediate: int = 256
    vocabulary: int = 4000

    def config(self, vocabulary: int) -> BertConfig:
        """Give the configuration of this size.

        Args:
            vocabulary: Number of tokens the tokenizer really has.

        Returns:
            A configuration without dropout: under noise it only costs.

        Privacy:
            Nothing, no data touched.
        """
        return BertConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate,
            max_position_embeddings=2 * MAX_TOKENS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            type_vocab_size=2,
            pad_token_id=0,
        )


class Pretrainer(nn.Module):
    """An encoder with one head for hidden tokens and one for hidden sentences.

    Args:
        config: Configuration of the encoder.

    Privacy:
        Nothing private: it is trained on public text alone.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.encoder = BertModel(config)
        self.token_head = _head(config.hidden_size)
        self.sentence_head = _head(config.hidden_size)
        self.token_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.sentence_bias = nn.Parameter(torch.zeros(config.vocab_size))

    def token_logits(self, hidden: Tensor) -> Tensor:
        """Score the vocabulary at hidden places.

        Args:
            hidden: States of the hidden places, [places, hidden].

        Returns:
            Logits, [places, vocabulary].

        Privacy:
            Nothing private: public text alone.
        """
        transformed: Tensor = self.token_head(hidden)
        return transformed @ self._words().T + self.token_bias

    def sentence_logits(self, pooled: Tensor) -> Tensor:
        """Score the words of a sentence that was taken out.

        Args:
            pooled: Vectors of what was left, [messages, hidden].

        Returns:
            Logits, [messages, vocabulary].

        Privacy:
            Nothing private: public text alone.
        """
        transformed: Tensor = self.sentence_head(pooled)
        return transformed @ self._words().T + self.sentence_bias

    def _words(self) -> Tensor:
        return self.encoder.embeddings.word_embeddings.weight


def mean_pool(hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Average the states of the real tokens.

    Args:
        hidden_BTD: Hidden states, [records, tokens, width].
        mask_BT: 1 at real tokens and 0 at padding, [records, tokens].

    Returns:
        One vector for each record, [records, width].

    Privacy:
        Couples no records: each vector is a function of its own record.
    """
    weights_BT1 = mask_BT.to(hidden_BTD.dtype).unsqueeze(-1)
    return (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1)


def save_encoder(encoder: BertModel, folder: Path) -> None:
    """Save an encoder in half precision that loads in single precision.

    Args:
        encoder: The encoder; it is left in half precision.
        folder: Where to write `config.json` and `model.safetensors`.

    Privacy:
        Nothing private: the weights come from public text alone.
    """
    encoder.half().save_pretrained(folder)  # type: ignore[no-untyped-call]
    encoder.config.dtype = "float32"  # what from_pretrained casts to; training in half would fail
    encoder.config.save_pretrained(folder)


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
