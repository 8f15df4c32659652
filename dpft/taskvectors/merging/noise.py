"""Noise levels of vectors, which are public: they follow from the mechanisms of their runs."""

import math
from collections.abc import Sequence

from dpft.accounting import RunRecord, steps_of
from dpft.errors import ConfigurationError
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.vector import TaskVector

__all__ = ["noise_levels"]


def noise_levels(vectors: Sequence[TaskVector], options: MergeOptions) -> tuple[float, ...]:
    """Return the standard deviation of the noise in one coordinate of each vector.

    Args:
        vectors: At least one.
        options: Where `noise_std` is stated, it is taken.

    Returns:
        One level for each vector: as stated, or noise_multiplier clip_norm / divisor sqrt(steps)
        of its run, which is the level of plain gradient descent up to the learning rate.

    Raises:
        ConfigurationError: If levels are not stated, and a vector is not one run of coefficient 1
            with Gaussian noise.

    Privacy:
        Nothing, no data touched: public numbers of the certificates.
    """
    if options.noise_std is None:
        return tuple(_level(vector) for vector in vectors)
    if len(options.noise_std) != len(vectors):
        raise ConfigurationError(
            f"Expected noise_std={options.noise_std} to be {len(vectors)}, one for each vector. "
            "None is guessed. State all of them."
        )
    return options.noise_std


def _level(vector: TaskVector) -> float:
    single = len(vector.runs) == 1 and [term.coefficient for term in vector.terms] == [1]
    level = _of_run(vector.runs[0]) if single else None
    if level is None:
        raise ConfigurationError(
            "Expected every vector to be one Gaussian run of coefficient 1, with its clip norm and "
            "divisor in the certificate. The noise in others is not known from public numbers. "
            "State noise_std."
        )
    return level


def _of_run(run: RunRecord) -> float | None:
    multiplier = getattr(run.mechanism, "noise_multiplier", None)
    if multiplier is None or run.mechanism is None or None in {run.clip_norm, run.divisor}:
        return None
    assert run.clip_norm is not None
    assert run.divisor is not None
    return float(multiplier * run.clip_norm / run.divisor * math.sqrt(steps_of(run.mechanism)))
