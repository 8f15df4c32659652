"""NIST: n-gram matches weighted by how much an n-gram tells, as mteval-v13a computes it.

nltk's `corpus_nist` takes the matches of the one best reference, where the script clips a count by
the largest over all references, and divides by zero when no prediction has five words; hence fifty
lines of our own, held to numbers of the script by a test.
"""

import math
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["nist_scorer"]

_ORDERS = 5
_COLUMNS = 2 * _ORDERS + 2
_BETA = math.log(0.5) / math.log(1.5) ** 2
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_Words: TypeAlias = list[str]
_NGram: TypeAlias = tuple[str, ...]


def nist_scorer() -> Scorer:
    """Return NIST of order 5, >= 0 and without an upper end, ASCII case ignored.

    The weight of an n-gram is log2 of (how often its first n - 1 words occur / how often it does),
    counted over all references. The score is the sum over n of the mean weight of the prediction's
    n-grams that match, times exp(beta log(min(1, length / mean length of references))^2), where
    beta makes the factor 1/2 at two thirds. The weights are those of the whole reference set also
    where records are resampled.

    References:
        Doddington 2002, equations 2 and 3; mteval-v13a, as changed for a varying number of
        references by the organisers of the E2E challenge.

    Privacy:
        As `Scorer`.
    """
    return Scorer(
        figures=("nist",),
        kind=Kind.TEXTS,
        columns=_COLUMNS,
        statistics=_statistics,
        score=_score,
        signature=lambda _: f"nist|order:{_ORDERS}|case:lc|tok:13a",
    )


def _statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Rows:
    tokenise = Tokenizer13a()  # type: ignore[no-untyped-call]  # sacrebleu leaves it out
    words = [tokenise(text.translate(_LOWER)).split() for text in predictions]
    others = [[tokenise(t.translate(_LOWER)).split() for t in texts] for texts in references]
    weights = _information(others)
    rows = [_row(one, texts, weights) for one, texts in zip(words, others, strict=True)]
    return np.array(rows, dtype=np.float64)


def _information(references: Sequence[Sequence[_Words]]) -> dict[_NGram, float]:
    counts = Counter(n_gram for texts in references for words in texts for n_gram in _all(words))
    counts[()] = sum(len(words) for texts in references for words in texts)
    return {n_gram: math.log2(counts[n_gram[:-1]] / n) for n_gram, n in counts.items() if n_gram}


def _all(words: _Words) -> Iterator[_NGram]:
    for order in range(1, _ORDERS + 1):
        yield from zip(*(words[start:] for start in range(order)), strict=False)


def _row(words: _Words, references: Sequence[_Words], weights: dict[_NGram, float]) -> list[float]:
    most: Counter[_NGram] = Counter()
    for reference in references:
        most |= Counter(_all(reference))
    found = [0.0] * _ORDERS
    for n_gram, count in (Counter(_all(words)) & most).items():
        found[len(n_gram) - 1] += weights[n_gram] * count
    counts = [max(len(words) - order, 0) for order in range(_ORDERS)]
    return [*found, *counts, sum(len(reference) for reference in references), len(references)]


def _score(rows: Rows) -> dict[str, float]:
    totals = rows.sum(axis=0).tolist()
    found, counts = totals[:_ORDERS], totals[_ORDERS : 2 * _ORDERS]
    reference_words, num_references = totals[-2:]
    precision = sum(f / max(c, 1) for f, c in zip(found, counts, strict=True))
    mean_length = reference_words / (num_references / len(rows))
    return {"nist": precision * _brevity(counts[0] / mean_length)}


def _brevity(ratio: float) -> float:
    if ratio <= 0:
        return 0.0
    return math.exp(_BETA * math.log(min(ratio, 1.0)) ** 2)
