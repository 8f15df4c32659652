"""The public text the encoder is pretrained on: generated messages without labels, and prose.

The generated messages come from other seeds and other names than any labelled record, and their
labels are thrown away here, in `public_messages`; nothing downstream ever sees one. The prose is
read from a folder of Parquet files that the caller names. May be imported by `pretraining.py`
and `pretrain.py`.
"""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

from dpft.recipes.embedded.messages import PUBLIC_STYLE, compose
from dpft.recipes.embedded.topics import Split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PROSE_FILES", "prose_passages", "public_messages", "split_sentences"]

# Public domain and CC BY only, so that the weights may be passed on.
PROSE_FILES: tuple[str, ...] = (
    "text/classic_books.parquet",
    "text/leipzig_eng_news_2016_10k.parquet",
    "text/wikinews_en_sample.parquet",
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SENTENCES_PER_PASSAGE = 3
_LETTERS_PER_SENTENCE = (20, 160)


def public_messages(num_messages: int, seed: int) -> list[str]:
    """Generate unlabelled messages from the public pool of phrases.

    Args:
        num_messages: How many, at least 0.
        seed: Seed of the public corpus; its streams differ from those of every labelled set.

    Returns:
        The texts alone.

    Privacy:
        Nothing, no data touched: the people are invented, and their names occur in no labelled
        record (`test_names_of_the_splits_are_disjoint`).
    """
    random = Random(f"dpft-embedded/public/{seed}")  # noqa: S311 - must repeat, hides nothing
    drafts = (compose(random, Split.PUBLIC, PUBLIC_STYLE) for _ in range(num_messages))
    return [" ".join(draft.sentences) for draft in drafts]


def prose_passages(assets: Path, num_passages: int, seed: int) -> list[str]:
    """Cut public prose into passages of a few sentences.

    Args:
        assets: Folder that holds `PROSE_FILES`.
        num_passages: How many at most, drawn without replacement.
        seed: Seed of the draw.

    Returns:
        The passages, in random order.

    Raises:
        FileNotFoundError: One of `PROSE_FILES` is missing.

    Privacy:
        Nothing private: the texts are published.
    """
    passages = [passage for name in PROSE_FILES for passage in _passages(assets / name)]
    Random(f"dpft-embedded/prose/{seed}").shuffle(passages)  # noqa: S311 - must repeat, hides nothing
    return passages[:num_passages]


def split_sentences(text: str) -> list[str]:
    """Cut a text after every full stop, question mark or exclamation mark.

    Args:
        text: Any text.

    Returns:
        Its sentences, none of them empty.

    Privacy:
        Nothing, no data touched.
    """
    return [piece for piece in _SENTENCE_END.split(text.strip()) if piece]


def _passages(path: Path) -> Iterator[str]:
    import pyarrow.parquet

    low, high = _LETTERS_PER_SENTENCE
    for text in pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist():
        for paragraph in re.split(r"\n\s*\n|\n", text):
            kept = [line for line in split_sentences(paragraph) if low <= len(line) <= high]
            for start in range(0, len(kept), _SENTENCES_PER_PASSAGE):
                yield " ".join(kept[start : start + _SENTENCES_PER_PASSAGE])
