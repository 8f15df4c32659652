"""Poisson sampling: which records enter a step, and the event that the accountant books.

The engine owns the sampler. A logical batch is made here, used once, in order, by the step that
made it; foreign samplers and loaders are refused.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from dpft.errors import BrokenGuaranteeError
from dpft.performance import Performance
from dpft.privacy import PlannedLength
from dpft.randomness import SecretRandomness
from dpft.records import Collate, Row, length_of, length_sorted_batches

__all__ = ["LogicalBatch", "PoissonSampler"]


class LogicalBatch:
    """The records of one step; opaque, because which and how many they are is private.

    Args:
        rows: The sampled rows.
        collate: Makes tensors of them.
        step: Number of the step it is for.

    Privacy:
        Neither its size nor its content is shown; only the step that made it reads it.
    """

    def __init__(self, rows: Sequence[Row], collate: Collate, step: int) -> None:
        """Keep the rows."""
        self._raw_rows = rows
        self._collate = collate
        self.step = step

    def __repr__(self) -> str:
        """Name the step, nothing else."""
        return f"LogicalBatch(step={self.step})"

    def physical_batches(self, performance: Performance) -> Iterator[Mapping[str, torch.Tensor]]:
        """Yield the records as tensors, in physical batches of similar length."""
        lengths = [length_of(row) for row in self._raw_rows]
        for positions in length_sorted_batches(lengths, performance):
            yield self._collate([self._raw_rows[position] for position in positions])


class PoissonSampler:
    """Draws every record independently with the planned sample rate, at every step.

    Args:
        records: Encoded records; may have another length than the planned N, if that was stated.
        collate: Makes tensors of rows.
        length: Steps and sample rate, public.
        randomness: Where the secret bits come from.

    Privacy:
        Exactly the sampling of `PrivacyPlan.mechanism`: rate expected_batch_size / num_records,
        `steps` times, independent (`tests/dpft/test_sampling.py`). Empty samples happen.
    """

    name = "Poisson: every record independently at every step"

    def __init__(
        self,
        records: Sequence[Row],
        collate: Collate,
        length: PlannedLength,
        randomness: SecretRandomness,
    ) -> None:
        """Keep what is needed; nothing is drawn yet."""
        self._records = records
        self._collate = collate
        self._length = length
        self._randomness = randomness

    def draw(self, step: int) -> LogicalBatch:
        """Return the sample of one step.

        Raises:
            BrokenGuaranteeError: If the step is beyond the planned ones.
        """
        if not 0 <= step < self._length.steps:
            raise BrokenGuaranteeError(
                f"Expected step={step} < steps={self._length.steps}. Every further step would cost "
                "privacy that was not accounted for. Plan more steps from the start."
            )
        chosen = self._randomness.poisson_sample(step, len(self._records), self._length.sample_rate)
        rows = [self._records[int(index)] for index in np.asarray(chosen)]
        return LogicalBatch(rows, self._collate, step)
