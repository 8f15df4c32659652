"""How far a figure would move on other records: a bootstrap for any metric, Wilson for accuracy.

Both describe the drawing of held-out records. Neither knows of privacy noise: they do not apply to
a figure that was released with it.
"""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.stats import binomtest

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.recipes.metrics.scorer import Rows, Scorer

__all__ = ["Bootstrap", "bootstrap_intervals", "wilson_interval"]


@validated
class Bootstrap:
    """How an interval is taken.

    Args:
        confidence: Share of repetitions inside the interval, in (0, 1).
        resamples: Number of resamples, >= 100.
        seed: Seed of the resamples, public, >= 0.

    Privacy:
        Nothing, no data touched.
    """

    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0


def bootstrap_intervals(
    scorer: Scorer, rows: Rows, settings: Bootstrap
) -> dict[str, tuple[float, float]]:
    """Return the percentile interval of every figure, of records drawn with replacement.

    Args:
        scorer: The metric.
        rows: Its statistics, `[N, columns]`, N >= 2.
        settings: Confidence, resamples and seed; equal settings give equal intervals.

    Returns:
        Lower and upper end per figure.

    Raises:
        ConfigurationError: If there are fewer than two records.

    Privacy:
        As noiseless as the figure itself, and dependent on more of the records: for public records
        only.

    References:
        Efron and Tibshirani 1993, section 13.3; Koehn 2004 for BLEU.
    """
    if len(rows) < 2:
        raise ConfigurationError(
            "Expected records to be at least two. One record tells nothing about how much another "
            "would differ. Evaluate on more records, or without an interval."
        )
    draw = np.random.default_rng(settings.seed)
    picks = (draw.integers(len(rows), size=len(rows)) for _ in range(settings.resamples))
    found = [scorer.score(rows[pick]) for pick in picks]
    tail = (1 - settings.confidence) / 2
    return {
        name: _ends(np.quantile([each[name] for each in found], (tail, 1 - tail)))
        for name in scorer.figures
    }


def wilson_interval(
    raw_correct: int, num_records: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Wilson's interval of an accuracy, without correction for continuity.

    Args:
        raw_correct: Number of records predicted rightly, in [0, num_records].
        num_records: Number of records, >= 1.
        confidence: In (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ConfigurationError: If the numbers are out of range.

    Privacy:
        The ends tell the count: for public records only.

    References:
        Wilson 1927; Newcombe 1998, method 3.
    """
    if not (0 <= raw_correct <= num_records and num_records >= 1 and 0 < confidence < 1):
        raise ConfigurationError(
            "Expected 0 <= raw_correct <= num_records, num_records >= 1 and 0 < confidence < 1. An "
            "accuracy is a share of records. Count again."
        )
    found = binomtest(raw_correct, num_records).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def _ends(ends: Rows) -> tuple[float, float]:
    return float(ends[0]), float(ends[1])
