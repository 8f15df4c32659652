"""Means over repetitions, with the interval that so few of them allow."""

import math
import statistics
from collections.abc import Sequence

from scipy import stats

__all__ = ["half_width", "mean_and_interval"]

_CONFIDENCE = 0.95


def half_width(values: Sequence[float]) -> float | None:
    """Return half the width of Student's 95% interval of a mean.

    Args:
        values: One for each repetition.

    Returns:
        The half-width; None with fewer than two values.

    Privacy:
        Nothing, no data touched.
    """
    if len(values) < 2:
        return None
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def mean_and_interval(values: Sequence[float], digits: int = 3) -> str:
    """Return "mean ± half-width", or the mean alone of one value.

    Args:
        values: One for each repetition, at least one.
        digits: Decimals.

    Privacy:
        Nothing, no data touched.
    """
    mean, half = statistics.fmean(values), half_width(values)
    return f"{mean:.{digits}f}" if half is None else f"{mean:.{digits}f} ± {half:.{digits}f}"
