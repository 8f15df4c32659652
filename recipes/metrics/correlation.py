"""Pearson and Spearman correlation of predicted scores, by SciPy."""

from collections.abc import Callable, Sequence

import numpy as np
import scipy
from scipy import stats

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["pearson_scorer", "spearman_scorer"]


def pearson_scorer() -> Scorer:
    """Return Pearson's correlation, in [-1, 1].

    Privacy:
        As `Scorer`.
    """
    return _scorer("pearson", stats.pearsonr)


def spearman_scorer() -> Scorer:
    """Return Spearman's rank correlation, in [-1, 1], with mean ranks for ties.

    Privacy:
        As `Scorer`.
    """
    return _scorer("spearmanr", stats.spearmanr)


def _scorer(figure: str, function: Callable[..., tuple[float, float]]) -> Scorer:
    def score(rows: Rows) -> dict[str, float]:
        _require_spread(rows, figure)
        return {figure: float(function(rows[:, 0], rows[:, 1])[0])}

    return Scorer(
        figures=(figure,),
        kind=Kind.NUMBERS,
        columns=2,
        statistics=_pairs,
        score=score,
        signature=lambda _: f"{figure}|scipy:{scipy.__version__}",
    )


def _pairs(predictions: Sequence[float], references: Sequence[float]) -> Rows:
    return np.column_stack([predictions, references]).astype(np.float64)


def _require_spread(rows: Rows, figure: str) -> None:
    for column, field in enumerate(("predictions", "references")):
        if np.ptp(rows[:, column]) == 0:
            raise ConfigurationError(
                f"Expected {field} to hold at least two different numbers. The {figure} "
                "correlation of a constant is undefined. Pass more records, or train a model that "
                "tells them apart."
            )
