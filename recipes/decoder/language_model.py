"""The decoder to pretrain: a Llama of ordinary build, and its loss on the texts of documents.

May be imported by `pretraining.py` and `pretrain.py`.

Legend: B documents, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from dpft.recipes.decoder.tokenizer import MAX_TOKENS, SPECIAL_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dpft.recipes.decoder.corpus import TokenisedDocuments

__all__ = ["DecoderSize", "DocumentBatch", "make_batch", "save_decoder", "text_loss"]

_PAD, _BOS, _EOS = range(len(SPECIAL_TOKENS))
_IGNORED = -100


@dataclass(frozen=True)
class DecoderSize:
    """Size of the decoder.

    Args:
        layers: Number of layers, at least 1.
        hidden: Width of the hidden states, a multiple of `heads`.
        heads: Number of attention heads.
        intermediate: Width of the feed-forward part.
        vocabulary: Number of tokens asked of the tokenizer.

    Privacy:
        Nothing, no data touched.
    """

    layers: int = 4
    hidden: int = 256
    heads: int = 8
    intermediate: int = 640
    vocabulary: int = 4096

    def config(self, vocabulary: int) -> LlamaConfig:
        """Give the configuration of this size.

        Args:
            vocabulary: Number of tokens the tokenizer really has.

        Returns:
            A configuration without dropout, with tied embeddings.

        Privacy:
            Nothing, no data touched.
        """
        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate,
            max_position_embeddings=MAX_TOKENS,
            tie_word_embeddings=True,
            pad_token_id=_PAD,
            bos_token_id=_BOS,
            eos_token_id=_EOS,
        )


class DocumentBatch(NamedTuple):
    """One step's documents, padded right.

    Args:
        input_ids: Tokens, [B, T].
        labels: The next token where it belongs to a text, -100 elsewhere, [B, T].

    Privacy:
        Nothing private: public text alone.
    """

    input_ids: Tensor
    labels: Tensor


def make_batch(documents: TokenisedDocuments, indices: Sequence[int]) -> DocumentBatch:
    """Pad some documents to the longest of them.

    Args:
        documents: The corpus.
        indices: Which documents, at least one.

    Returns:
        The batch.

    Privacy:
        Nothing private: public text alone.
    """
    longest = max(map(documents.length, indices))
    ids_BT = np.full((len(indices), longest), _PAD, dtype=np.int64)
    labels_BT = np.full((len(indices), longest), _IGNORED, dtype=np.int64)
    for row, index in enumerate(indices):
        start, end = documents.starts[index], documents.starts[index + 1]
        text = int(documents.text_starts[index])
        ids_BT[row, : end - start] = documents.ids[start:end]
        labels_BT[row, text - start - 1 : end - start - 1] = documents.ids[text:end]
    return DocumentBatch(torch.from_numpy(ids_BT), torch.from_numpy(labels_BT))


def text_loss(model: LlamaForCausalLM, batch: DocumentBatch) -> Tensor:
    """Compute the mean loss of the tokens of texts.

    Args:
        model: The decoder.
        batch: What `make_batch` gave.

    Returns:
        Mean loss in nats. Tokens look back only, hence padding needs no mask.

    Privacy:
        Nothing private: public text alone.
    """
    states = model.model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    places = batch.labels != _IGNORED
    return F.cross_entropy(model.lm_head(states[places]), batch.labels[places])


def save_decoder(model: LlamaForCausalLM, folder: Path) -> None:
    """Save a decoder in half precision that loads in single precision.

    Args:
        model: The decoder; it is left in half precision.
        folder: Where to write `config.json`, `generation_config.json` and `model.safetensors`.

    Privacy:
        Nothing private: the weights come from public text alone.
    """
    model.half().save_pretrained(folder)  # type: ignore[no-untyped-call]
    model.config.dtype = "float32"  # what from_pretrained casts to; training in half would fail
    model.config.save_pretrained(folder)
