"""The metrics of a run with their intervals, and what each of them cost."""

import dataclasses
import math

from dpft.held_out import metric_id
from dpft.privacy import EvaluationStatus
from dpft.reporting.sources import Sources

__all__ = ["Figure", "figures_of"]

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Figure:
    """One metric.

    Args:
        name: Its name.
        value: As released.
        lower: Lower end of its interval, None if there is none.
        upper: Upper end of its interval, None if there is none.
        interval_of: What the interval covers, in words.
        status: What it cost, in words.

    Privacy:
        Public, or noisy and charged: anything else `read_sources` refuses.
    """

    name: str
    value: float
    lower: float | None
    upper: float | None
    interval_of: str
    status: str


def figures_of(sources: Sources) -> tuple[Figure, ...]:
    """Return the metrics of a run.

    Args:
        sources: Its files.

    Privacy:
        Post-processing of released values. The interval of a noisy metric follows from the noise
        and the public number of held-out records
        (`test_the_interval_of_a_noisy_metric_covers_its_noise`).
    """
    statuses = sources.metrics["metric_status"]
    return tuple(
        _figure(sources, name, float(value), statuses[name])
        for name, value in sources.metrics["metrics"].items()
    )


def _figure(sources: Sources, name: str, value: float, status: dict[str, float | str]) -> Figure:
    if status["status"] == EvaluationStatus.NOISY.value:
        epsilon = float(status["epsilon"])
        words = f"noisy: each held-out record paid epsilon = {epsilon:g}"
        width = _noise_width(sources, epsilon)
        if width is None:
            return Figure(name, value, None, None, "not stated", words)
        lower, upper = max(value - width, 0.0), min(value + width, 1.0)
        return Figure(name, value, lower, upper, "95 % of its own noise", words)
    words = "public: taken on records declared public"
    if "lower" not in status or "upper" not in status:
        return Figure(name, value, None, None, "not stated", words)
    lower, upper = float(status["lower"]), float(status["upper"])
    return Figure(name, value, lower, upper, "95 % over held-out records", words)


def _noise_width(sources: Sources, epsilon: float) -> float | None:
    """Return the half width that discrete Laplace noise on the count stays in."""
    name = metric_id(sources.run.run_id)
    counts = [run.num_records for run in sources.certificate.runs if run.run_id == name]
    if not counts or counts[0] is None:
        return None
    # P(|X| > k) = 2 r^(k + 1) / (1 + r) for r = exp(-epsilon)
    ratio = math.exp(-epsilon)
    most = math.log((1 - _CONFIDENCE) * (1 + ratio) / 2) / -epsilon - 1
    return max(math.ceil(most), 0) / counts[0]
