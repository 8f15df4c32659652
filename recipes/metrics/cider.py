"""CIDEr-D: agreement with references in the n-grams that few other records have."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.captions import caption_words, caption_words_signature
from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["cider_scorer"]

_FEWEST = 2
_ORDERS = 4
_SIGMA = 6.0
_SCALE = 10.0

_NGram: TypeAlias = tuple[str, ...]
_Counts: TypeAlias = Counter[_NGram]
_Vectors: TypeAlias = tuple[list[dict[_NGram, float]], list[float], int]


def cider_scorer() -> Scorer:
    """Return mean CIDEr-D, in [0, 10]: cosines of n-gram vectors weighted by rarity.

    The weights are those of the whole reference set also where records are resampled.

    References:
        Vedantam et al. 2015 (1411.5726), equations 1 to 3 and section 8.2 (CIDEr-D); as in the
        authors' code the length of a text is counted in pairs of words.

    Privacy:
        As `Scorer`.
    """
    return Scorer(
        figures=("cider",),
        kind=Kind.TEXTS,
        columns=1,
        statistics=_cider_rows,
        score=lambda rows: {"cider": float(rows.mean())},
        signature=lambda _: f"cider|variant:d|sigma:{_SIGMA:g}|{caption_words_signature()}",
        fewest=_FEWEST,
    )


def _cider_rows(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Rows:
    if len(predictions) < _FEWEST:
        raise ConfigurationError(
            "Expected predictions to hold at least two records. CIDEr weighs n-grams by the share "
            "of records without them, and of one record all weights are 0. Pass the whole split."
        )
    counted = [[_n_grams(caption_words(text)) for text in texts] for texts in references]
    records_with = Counter(n_gram for texts in counted for n_gram in set().union(*texts))
    rarity = _Rarity(records_with, len(predictions))
    rows = [
        [_cider(rarity.vectors(_n_grams(caption_words(text))), [*map(rarity.vectors, others)])]
        for text, others in zip(predictions, counted, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def _n_grams(words: list[str]) -> _Counts:
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, _ORDERS + 1)
        for start in range(len(words) - order + 1)
    )


class _Rarity:
    """Weights n-grams by log(number of records / number of records whose references have them)."""

    def __init__(self, records_with: Counter[_NGram], num_records: int) -> None:
        self._records_with = records_with
        self._ceiling = math.log(num_records)

    def vectors(self, counts: _Counts) -> _Vectors:
        """Return per order the weighted counts and their norm, and the number of word pairs."""
        by_order: list[dict[_NGram, float]] = [{} for _ in range(_ORDERS)]
        for n_gram, count in counts.items():
            weight = self._ceiling - math.log(max(1, self._records_with[n_gram]))
            by_order[len(n_gram) - 1][n_gram] = count * weight
        norms = [math.sqrt(sum(v * v for v in vector.values())) for vector in by_order]
        return by_order, norms, sum(n for n_gram, n in counts.items() if len(n_gram) == 2)


def _cider(prediction: _Vectors, references: list[_Vectors]) -> float:
    return _SCALE * sum(_similarity(prediction, other) for other in references) / len(references)


def _similarity(prediction: _Vectors, reference: _Vectors) -> float:
    cosines = [
        sum(min(value, b.get(n_gram, 0.0)) * b.get(n_gram, 0.0) for n_gram, value in a.items())
        / (norm_a * norm_b)
        for a, norm_a, b, norm_b in zip(*prediction[:2], *reference[:2], strict=True)
        if norm_a and norm_b
    ]
    return (
        sum(cosines) / _ORDERS * math.exp(-((prediction[2] - reference[2]) ** 2) / (2 * _SIGMA**2))
    )
