"""BLEU, chrF and TER against one or more references, by sacrebleu.

sacrebleu computes statistics per record and adds them up; both steps are methods of its classes
that it does not call public, hence a test compares each result with its `corpus_score`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["bleu_scorer", "chrf_scorer", "multi_bleu_scorer", "ter_scorer"]

_ORDERS = 4
_BLEU_COLUMNS = 2 + 2 * _ORDERS  # two lengths; matches and n-grams of each order
_CHRF_COLUMNS = 3 * CHRF.CHAR_ORDER  # n-grams of prediction, of reference, matches


def bleu_scorer(*, lowercase: bool = False) -> Scorer:
    """Return BLEU of order 4 in percent, tokenised and smoothed as mteval-v13a does.

    Args:
        lowercase: Whether case is ignored, as in the E2E challenge.

    References:
        Papineni et al. 2002, section 2.3; Post 2018 (1804.08771), section 4, for the signature.

    Privacy:
        As `Scorer`.
    """
    return _scorer("bleu", _BLEU_COLUMNS, lambda: BLEU(lowercase=lowercase), _streams)


def multi_bleu_scorer() -> Scorer:
    """Return BLEU in percent as multi-bleu.perl: words as given, case kept, no smoothing.

    A record with fewer references than others gets empty ones. That is what DART's files do, and
    the script takes an empty line for a reference of length 0, which shortens the reference length
    wherever all others are more than twice as long as the prediction.

    Privacy:
        As `Scorer`.
    """

    def make() -> BLEU:
        return BLEU(tokenize="none", smooth_method="none", force=True)

    return _scorer("bleu", _BLEU_COLUMNS, make, _padded_streams)


def chrf_scorer() -> Scorer:
    """Return chrF2 in percent: F2 of character n-grams up to order 6, of the best reference.

    References:
        Popović 2015, section 2.

    Privacy:
        As `Scorer`.
    """
    return _scorer("chrf", _CHRF_COLUMNS, CHRF, _streams)


def ter_scorer() -> Scorer:
    """Return the translation edit rate in percent, case ignored, words as given; lower is better.

    Edits to the nearest reference, over the mean length of the references.

    References:
        Snover et al. 2006, section 3.

    Privacy:
        As `Scorer`.
    """
    return _scorer("ter", 2, TER, _streams)


def _scorer(
    figure: str,
    columns: int,
    make: Callable[[], Metric],
    streams: Callable[[Sequence[Sequence[str]]], list[Any]],
) -> Scorer:
    def statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Rows:
        table = make()._extract_corpus_statistics(predictions, streams(references))  # noqa: SLF001 - see the module's docstring
        return np.array(table, dtype=np.float64)

    def score(rows: Rows) -> dict[str, float]:
        totals = rows.sum(axis=0).tolist()
        return {figure: float(make()._compute_score_from_stats(totals).score)}  # noqa: SLF001 - as above

    def signature(references: Sequence[Sequence[str]]) -> str:
        metric = make()
        metric._cache_references(streams(references[:]))  # noqa: SLF001 - counts the references
        return f"{figure}|{metric.get_signature()}"

    return Scorer(
        figures=(figure,),
        kind=Kind.TEXTS,
        columns=columns,
        statistics=statistics,
        score=score,
        signature=signature,
    )


def _streams(references: Sequence[Sequence[str]]) -> list[Any]:
    return list(itertools.zip_longest(*references))


def _padded_streams(references: Sequence[Sequence[str]]) -> list[Any]:
    return list(itertools.zip_longest(*references, fillvalue=""))
