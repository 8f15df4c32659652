"""Accuracy of class labels, and F1 and Matthews correlation by scikit-learn."""

from collections.abc import Callable, Sequence

import numpy as np
import sklearn
from sklearn.metrics import f1_score, matthews_corrcoef

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.scorer import Kind, Rows, Scorer

__all__ = ["accuracy_scorer", "f1_scorer", "matthews_scorer"]


def accuracy_scorer() -> Scorer:
    """Return the share of labels predicted rightly, in [0, 1].

    Privacy:
        As `Scorer`. `dpft.recipes.metrics.accuracy.accuracy` releases it with noise.
    """
    return _scorer("accuracy", _share_equal, _pairs)


def f1_scorer() -> Scorer:
    """Return F1 of class 1, in [0, 1]; 0 where class 1 is neither there nor predicted.

    Labels are 0 and 1.

    Privacy:
        As `Scorer`.
    """
    return _scorer("f1", _binary_f1, _binary_pairs)


def matthews_scorer() -> Scorer:
    """Return Matthews correlation, in [-1, 1]; 0 where labels or predictions are all the same.

    Privacy:
        As `Scorer`.
    """
    return _scorer("matthews_correlation", _matthews, _pairs)


def _scorer(
    figure: str,
    function: Callable[..., float],
    statistics: Callable[[Sequence[int], Sequence[int]], Rows],
) -> Scorer:
    return Scorer(
        figures=(figure,),
        kind=Kind.LABELS,
        columns=2,
        statistics=statistics,
        score=lambda rows: {figure: float(function(rows[:, 1], rows[:, 0]))},
        signature=lambda _: f"{figure}|scikit-learn:{sklearn.__version__}",
    )


def _pairs(predictions: Sequence[int], references: Sequence[int]) -> Rows:
    return np.column_stack([predictions, references]).astype(np.float64)


def _binary_pairs(predictions: Sequence[int], references: Sequence[int]) -> Rows:
    rows = _pairs(predictions, references)
    for column, field in enumerate(("predictions", "references")):
        strange = np.flatnonzero(~np.isin(rows[:, column], (0, 1)))
        if len(strange):
            raise ConfigurationError(
                f"Expected {field} of row {strange[0]} to be 0 or 1. F1 is that of class 1 against "
                "class 0. Number the two classes so, or use accuracy."
            )
    return rows


def _share_equal(references: Rows, predictions: Rows) -> float:
    # Not accuracy_score: it checks types for milliseconds, a thousand times in a bootstrap.
    return float((references == predictions).mean())


def _binary_f1(references: Rows, predictions: Rows) -> float:
    return float(f1_score(references, predictions, zero_division=0.0))


def _matthews(references: Rows, predictions: Rows) -> float:
    # scikit-learn warns of a single label, and warnings are errors where this runs in tests.
    if len(np.unique([references, predictions])) == 1:
        return 0.0
    return float(matthews_corrcoef(references, predictions))
