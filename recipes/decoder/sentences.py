"""The public sentences and passages the decoder is pretrained on. No torch in here.

May be imported by `corpus.py` and `tokenizer.py`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from dpft.recipes.embedded.corpus import split_sentences

__all__ = ["FACT_FILES", "STORY_FILES", "passages_of", "public_texts", "sentences_of"]

# Public domain, CC BY and CC BY-SA only: what forbids commercial use or states no licence
# (captions, reviews, Brown) is left out, so that the weights may be passed on.
FACT_FILES: tuple[str, ...] = (
    "data/text/leipzig_eng_news_2016_10k.parquet",
    "data/text/wikinews_en_sample.parquet",
    "data/text/wikipedia_en_sample.parquet",
)
STORY_FILES: tuple[str, ...] = ("data/text/classic_books.parquet", *FACT_FILES)
_LETTERS = (30, 200)
_SENTENCES_PER_PASSAGE = 3
_GAP = re.compile(r" [.,;:!?]")  # where a link or formula was lost
_ORDINARY = re.compile(r"[A-Z\"'][A-Za-z0-9 ,.;:'\"()%$£é&/-]*[.!?\"]")


def public_texts(assets: Path, files: tuple[str, ...]) -> Iterator[str]:
    """Yield the texts of some files, in the order of the files.

    Args:
        assets: Folder that holds the files.
        files: Parquet files with a column `text`.

    Raises:
        FileNotFoundError: A file is missing.

    Privacy:
        Nothing private: the texts are published.
    """
    import pyarrow.parquet

    for name in files:
        yield from pyarrow.parquet.read_table(assets / name, columns=["text"])["text"].to_pylist()


def sentences_of(text: str) -> Iterator[str]:
    """Yield the whole sentences of a text that are neither short, long nor full of signs.

    Args:
        text: Any text.

    Privacy:
        Nothing private: the texts are published.

    Example:
        >>> list(sentences_of("No. The mill at Elm Bridge was built in 1805. == x =="))
        ['The mill at Elm Bridge was built in 1805.']
    """
    for paragraph in text.split("\n"):
        yield from filter(_is_ordinary, split_sentences(paragraph))


def passages_of(text: str) -> Iterator[str]:
    """Yield runs of a few ordinary sentences of one paragraph.

    Args:
        text: Any text.

    Privacy:
        Nothing private: the texts are published.
    """
    for paragraph in text.split("\n"):
        kept = [line for line in split_sentences(paragraph) if _is_ordinary(line)]
        for start in range(0, len(kept), _SENTENCES_PER_PASSAGE):
            yield " ".join(kept[start : start + _SENTENCES_PER_PASSAGE])


def _is_ordinary(sentence: str) -> bool:
    low, high = _LETTERS
    if not low <= len(sentence) <= high or _GAP.search(sentence):
        return False
    return _ORDINARY.fullmatch(sentence) is not None
