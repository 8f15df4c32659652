"""Keeps the texts of table-to-text benchmarks out of the pretraining corpus. No torch in here.

A text is dropped that shares a run of eight words with any reference of E2E, DART or WebNLG,
whatever the split. May be imported by `corpus.py`.
"""

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

__all__ = ["benchmark_runs", "shares_a_run", "word_runs"]

_BENCHMARKS = "data/nlg"
_RUN = 8
_WORD = re.compile(r"[a-z0-9]+")


def benchmark_runs(assets: Path) -> frozenset[tuple[str, ...]]:
    """Collect the word runs of every reference of the benchmarks.

    Args:
        assets: Folder with `data/nlg/**/*.parquet`, in the columns of E2E or of DART.

    Returns:
        Every run of eight words.

    Raises:
        FileNotFoundError: There is no benchmark to compare with: the corpus would go unchecked.

    Privacy:
        Nothing private: public benchmarks, read to be kept out.
    """
    files = sorted((assets / _BENCHMARKS).glob("**/*.parquet"))
    if not files:
        raise FileNotFoundError(assets / _BENCHMARKS)
    return frozenset(run for path in files for text in _references(path) for run in word_runs(text))


def word_runs(text: str) -> Iterator[tuple[str, ...]]:
    """Yield every run of eight words, in lower case and without signs; a shorter text as a whole.

    Args:
        text: Any text.

    Privacy:
        Nothing, no data touched.
    """
    words = _WORD.findall(text.lower())
    for start in range(max(1, len(words) - _RUN + 1)):
        yield tuple(words[start : start + _RUN])


def shares_a_run(text: str, runs: AbstractSet[tuple[str, ...]]) -> bool:
    """Say whether a text shares a word run with a collection of them.

    Args:
        text: Any text.
        runs: What `benchmark_runs` gave.

    Privacy:
        Nothing, no data touched.
    """
    return any(run in runs for run in word_runs(text))


def _references(path: Path) -> Iterable[str]:
    import pyarrow.parquet

    for row in pyarrow.parquet.read_table(path).to_pylist():
        yield from _texts(row)


def _texts(row: dict[str, Any]) -> list[str]:
    if "annotations" in row:
        return [str(reference["text"]) for reference in row["annotations"]]
    return [str(row["human_reference"])]
