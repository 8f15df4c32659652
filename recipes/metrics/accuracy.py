"""Accuracy as a public number or as a noisy release. No torch in here."""

import dataclasses

from dpft.privacy import EvaluationStatus
from dpft.recipes.metrics.discrete_laplace import discrete_laplace

__all__ = ["Metrics", "accuracy"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """Metrics with what each of them cost.

    Args:
        values: Metric by name, in [0, 1].
        status: What each metric cost, in the words of metrics.json.

    Privacy:
        Holds what may be published: public numbers, or releases that already carry noise.
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    status: dict[str, dict[str, str | float]] = dataclasses.field(default_factory=dict)


def accuracy(
    raw_correct: int, num_records: int, status: EvaluationStatus, epsilon: float | None = None
) -> Metrics:
    """Return the accuracy in the form that its status allows.

    Args:
        raw_correct: Number of records predicted rightly.
        num_records: Public number by which the count is divided, >= 1: that of the held-out
            records, as stated or, where their number is declared public, counted.
        status: Whether the records are public, or the count is released with noise.
        epsilon: Price of the noisy release, > 0; given exactly with `noisy`.

    Returns:
        The accuracy; nothing for `none`.

    Privacy:
        One held-out record changes the count by at most 1
        (`test_one_held_out_record_moves_the_count_by_at_most_one`). `noisy` releases the count
        plus discrete Laplace noise: epsilon-private for the held-out records, and charged before
        it is taken (`tests/end_to_end/test_noisy_metric.py`). Clamping is post-processing.
    """
    if status is EvaluationStatus.NONE:
        return Metrics()
    if status is EvaluationStatus.PUBLIC:
        return _metrics(raw_correct / num_records, {"status": status.value})
    assert epsilon is not None, "Privacy asks for evaluation_epsilon with evaluation=noisy"
    noisy = raw_correct + discrete_laplace(epsilon)
    price: dict[str, str | float] = {"status": status.value, "epsilon": epsilon, "delta": 0.0}
    return _metrics(min(max(noisy / num_records, 0.0), 1.0), price)


def _metrics(value: float, status: dict[str, str | float]) -> Metrics:
    return Metrics(values={"accuracy": value}, status={"accuracy": status})
