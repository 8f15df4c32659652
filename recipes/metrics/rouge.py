"""ROUGE-1, ROUGE-2 and ROUGE-L, by rouge-score."""

import importlib.metadata
from collections.abc import Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["rouge_scorer"]

_TYPES = ("rouge1", "rouge2", "rougeL")


def rouge_scorer() -> Scorer:
    """Return mean F1 of ROUGE-1, -2 and -L, in [0, 1], each of the reference where it is best.

    Words are lower-cased runs of ASCII letters and digits, without stemming.

    References:
        Lin 2004, sections 2 and 3.1, with beta = 1.

    Privacy:
        As `Scorer`.
    """
    return Scorer(
        figures=_TYPES,
        kind=Kind.TEXTS,
        columns=len(_TYPES),
        statistics=_statistics,
        score=lambda rows: dict(zip(_TYPES, rows.mean(axis=0).tolist(), strict=True)),
        signature=lambda _: (
            f"rouge|stem:no|rouge_score:{importlib.metadata.version('rouge_score')}"
        ),
    )


def _statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Rows:
    scorer = RougeScorer(list(_TYPES))
    found = [scorer.score_multi(r, p) for p, r in zip(predictions, references, strict=True)]
    return np.array([[each[name].fmeasure for name in _TYPES] for each in found], dtype=np.float64)
