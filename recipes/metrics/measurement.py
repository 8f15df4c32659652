"""Figures of public records, with their intervals and signature, in the form metrics.json takes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dpft.errors import BrokenGuaranteeError
from dpft.privacy import EvaluationStatus
from dpft.recipes.metrics.accuracy import Metrics
from dpft.recipes.metrics.inputs import checked_records
from dpft.recipes.metrics.intervals import Bootstrap, bootstrap_intervals, wilson_interval
from dpft.recipes.metrics.record_metric import RecordMetric
from dpft.recipes.metrics.scorer import Rows

__all__ = ["Measurement", "measure", "refuse_private"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured on public records.

    Args:
        values: Figures by name.
        intervals: Lower and upper end by name; empty if none were asked for.
        signature: Options and versions, to be printed beside the figures.
        num_records: Number of records, >= 1.

    Privacy:
        Holds what may be published because the records are public.
    """

    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    signature: str
    num_records: int

    @property
    def metrics(self) -> Metrics:
        """The figures as `Metrics`: signature and interval stand beside their status."""
        status: dict[str, dict[str, str | float]] = {
            name: {"status": EvaluationStatus.PUBLIC.value, "signature": self.signature}
            for name in self.values
        }
        for name, (lower, upper) in self.intervals.items():
            status[name] |= {"lower": lower, "upper": upper}
        return Metrics(values=dict(self.values), status=status)


def measure(
    metric: RecordMetric,
    predictions: Any,
    references: Any,
    status: EvaluationStatus,
    bootstrap: Bootstrap | None = None,
) -> Measurement:
    """Compute a metric of public records.

    Args:
        metric: From `dpft.recipes.metrics.metric` or `glue_metric`.
        predictions: One per record.
        references: One per record; for texts a text or a list of texts.
        status: What the records are; anything but public is refused.
        bootstrap: How intervals are taken; None: none. Accuracy gets Wilson's in any case of one.

    Returns:
        The figures.

    Raises:
        BrokenGuaranteeError: If the records are not public.
        ConfigurationError: If a record is malformed, or a figure is undefined.

    Privacy:
        A figure without noise tells about every record: it is refused before the records are
        looked at, unless they are declared public (`test_a_figure_of_private_records_is_refused`).
        The one release with noise is `dpft.recipes.metrics.accuracy.accuracy`.
    """
    refuse_private(metric.name, status)
    scorer = metric.scorer
    predicted, expected = checked_records(scorer.kind, predictions, references)
    rows = scorer.statistics(predicted, expected)
    return Measurement(
        values=scorer.score(rows),
        intervals=_intervals(metric, rows, bootstrap) if bootstrap is not None else {},
        signature=scorer.signature(expected),
        num_records=len(rows),
    )


def refuse_private(name: str, status: EvaluationStatus) -> None:
    """Raise unless the records of a metric without noise are public.

    Args:
        name: Name of the metric.
        status: What the records are.

    Raises:
        BrokenGuaranteeError: If the records are not public.

    Privacy:
        Nothing, no data touched.
    """
    if status is not EvaluationStatus.PUBLIC:
        raise BrokenGuaranteeError(
            f"Expected evaluation={status.value} = public for metric {name}. A figure "
            "without noise tells about the records it was taken on. Declare the records public if "
            "they are, release accuracy with evaluation=noisy, or evaluate nothing."
        )


def _intervals(
    metric: RecordMetric, rows: Rows, bootstrap: Bootstrap
) -> dict[str, tuple[float, float]]:
    if metric.scorer.figures == ("accuracy",):
        raw_correct = int((rows[:, 0] == rows[:, 1]).sum())
        return {"accuracy": wilson_interval(raw_correct, len(rows), bootstrap.confidence)}
    return bootstrap_intervals(metric.scorer, rows, bootstrap)
