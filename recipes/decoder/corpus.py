"""The documents the decoder is pretrained on: sentences with a table made of them, and passages.

A document reads `table <bos> text <eos>`, or `<bos> text <eos>`; the loss is on the text alone, as
in the task. May be imported by `pretraining.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from dpft.recipes.decoder.overlap import benchmark_runs, shares_a_run
from dpft.recipes.decoder.pseudo_tables import table_of
from dpft.recipes.decoder.sentences import (
    FACT_FILES,
    STORY_FILES,
    passages_of,
    public_texts,
    sentences_of,
)
from dpft.recipes.linearisation import linearise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

__all__ = ["Document", "TokenisedDocuments", "public_documents", "tokenise"]

_LOG = logging.getLogger(__name__)
_CHUNK = 10_000


@dataclass(frozen=True)
class Document:
    """A text, and the table made of it.

    Args:
        table: The table as one line; empty for a text without one.
        text: The text.

    Privacy:
        Nothing private: public text alone.
    """

    table: str
    text: str


@dataclass(frozen=True)
class TokenisedDocuments:
    """Documents as tokens, end to end in one array.

    Args:
        ids: All tokens.
        starts: Where each document starts, and where the last one ends, [documents + 1].
        text_starts: Where the text of each document starts, [documents].

    Privacy:
        Nothing private: public text alone.
    """

    ids: np.ndarray
    starts: np.ndarray
    text_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.text_starts)

    def length(self, index: int) -> int:
        """Return the number of tokens of a document."""
        return int(self.starts[index + 1] - self.starts[index])


def public_documents(
    assets: Path, num_sentences: int, num_passages: int, seed: int
) -> list[Document]:
    """Make the corpus, without a text that shares eight words in a row with a benchmark.

    Args:
        assets: Folder with `data/text` and `data/nlg`.
        num_sentences: Sentences with a table, at most.
        num_passages: Passages without one, at most.
        seed: Public seed of the draw and of the tables.

    Returns:
        The documents in random order.

    Raises:
        FileNotFoundError: A file is missing, or the benchmarks to keep out are.

    Privacy:
        Nothing private: public text alone.
    """
    runs = benchmark_runs(assets)
    random = Random(f"dpft-decoder/{seed}")  # noqa: S311 - must repeat, hides nothing
    sentences = [s for text in public_texts(assets, FACT_FILES) for s in sentences_of(text)]
    passages = [p for text in public_texts(assets, STORY_FILES) for p in passages_of(text)]
    sentences = _drawn(sentences, num_sentences, random, runs)
    passages = _drawn(passages, num_passages, random, runs)
    documents = [Document(_table(text, random), text) for text in sentences]
    documents += [Document("", text) for text in passages]
    random.shuffle(documents)
    return documents


def tokenise(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, max_tokens: int
) -> TokenisedDocuments:
    """Turn documents into tokens; longer ones are left out.

    Args:
        documents: The documents.
        tokenizer: Tokenizer with `<bos>` and `<eos>`.
        max_tokens: Most tokens of a document.

    Returns:
        The documents as tokens, in the same order.

    Privacy:
        Nothing private: public text alone.
    """
    pieces: list[np.ndarray] = []
    lengths, offsets = [0], []
    for table, text in _tokens(documents, tokenizer):
        ids = [*table, tokenizer.bos_token_id, *text, tokenizer.eos_token_id]
        if len(ids) <= max_tokens:
            pieces.append(np.array(ids, dtype=np.uint16))
            lengths.append(len(ids))
            offsets.append(len(table) + 1)
    starts = np.cumsum(lengths)
    return TokenisedDocuments(np.concatenate(pieces), starts, starts[:-1] + np.array(offsets))


def _drawn(
    texts: list[str], number: int, random: Random, runs: frozenset[tuple[str, ...]]
) -> list[str]:
    texts = list(dict.fromkeys(texts))
    random.shuffle(texts)
    drawn = texts[:number]
    kept = [text for text in drawn if not shares_a_run(text, runs)]
    _LOG.info("%d texts, %d dropped for words of a benchmark", len(kept), len(drawn) - len(kept))
    return kept


def _table(sentence: str, random: Random) -> str:
    rows = table_of(sentence, random)
    return "" if rows is None else linearise(rows)


def _tokens(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast
) -> list[tuple[list[int], list[int]]]:
    tokens: list[tuple[list[int], list[int]]] = []
    for start in range(0, len(documents), _CHUNK):
        chunk = documents[start : start + _CHUNK]
        tables = tokenizer([d.table for d in chunk], verbose=False)["input_ids"]
        texts = tokenizer([" " + d.text for d in chunk], verbose=False)["input_ids"]
        tokens += zip(tables, texts, strict=True)
    return tokens
