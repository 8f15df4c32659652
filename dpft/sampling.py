"""Poisson sampling: which records or users enter a step, and the event that the accountant books.

The engine owns the sampler. A logical batch is made here, used once, in order, by the step that
made it; foreign samplers and loaders are refused.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from dpft.errors import BrokenGuaranteeError
from dpft.performance import Performance
from dpft.privacy import PlannedLength
from dpft.randomness import SecretRandomness
from dpft.records import Collate, Row, length_of, length_sorted_batches, user_batches
from dpft.users import Users

__all__ = ["LogicalBatch", "PoissonSampler", "Sampler", "UserBatch", "UserSampler"]


@dataclasses.dataclass(frozen=True)
class UserBatch:
    """Whole users that enter the model together, or one user in several physical batches.

    Args:
        parts: The records, user after user, cut into physical batches.
        sizes: Number of records of each user.
        collate: Makes tensors of rows.

    Privacy:
        Holds raw records.
    """

    parts: Sequence[Sequence[Row]] = dataclasses.field(repr=False)
    sizes: Sequence[int] = dataclasses.field(repr=False)
    collate: Collate = dataclasses.field(repr=False)

    @property
    def is_whole(self) -> bool:
        """Whether there is one physical batch; several hold one user alone."""
        return len(self.parts) == 1

    def tensors(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """Yield the physical batches as tensors."""
        return (self.collate(part) for part in self.parts)

    def shares(self) -> Iterator[list[float]]:
        """Yield, for each physical batch, every record's share in the mean of its user."""
        if not self.is_whole:
            yield from ([1 / self.sizes[0]] * len(part) for part in self.parts)
            return
        yield [1 / size for size in self.sizes for _ in range(size)]


class LogicalBatch:
    """The records of one step; opaque, because which and how many they are is private.

    Args:
        rows: The sampled rows.
        collate: Makes tensors of them.
        step: Number of the step it is for.
        sizes: Where users are sampled, the number of records of each: rows stand user after user.

    Privacy:
        Neither its size nor its content is shown; only the step that made it reads it.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        collate: Collate,
        step: int,
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Keep the rows."""
        self._raw_rows = rows
        self._raw_sizes = sizes
        self._collate = collate
        self.step = step

    def __repr__(self) -> str:
        """Name the step, nothing else."""
        return f"LogicalBatch(step={self.step})"

    @property
    def raw_longest(self) -> int:
        """Length of the longest record in tokens, 0 without any."""
        return max(map(length_of, self._raw_rows), default=0)

    def physical_batches(self, performance: Performance) -> Iterator[Mapping[str, torch.Tensor]]:
        """Yield the records as tensors, in physical batches of similar length.

        Raises:
            BrokenGuaranteeError: If users were sampled: their records may not be clipped alone.
        """
        if self._raw_sizes is not None:
            raise BrokenGuaranteeError(
                "Expected a sample of users to be cut into whole users. Records clipped one by one "
                "would let a user contribute many times the clip norm. Use user_batches."
            )
        for part in self._cut(self._raw_rows, performance):
            yield self._collate(part)

    def user_batches(self, performance: Performance) -> Iterator[UserBatch]:
        """Yield whole users in physical batches; a user of many records in several of them.

        Raises:
            BrokenGuaranteeError: If records were sampled and no users.
        """
        if self._raw_sizes is None:
            raise BrokenGuaranteeError(
                "Expected a sample of users, got one of records. Nobody said whose they are. Use "
                "physical_batches."
            )
        users = self._by_user()
        lengths = [[length_of(row) for row in rows] for rows in users]
        for chosen in user_batches(lengths, performance):
            rows = [row for user in chosen for row in users[user]]
            parts = list(self._cut(rows, performance)) if len(chosen) == 1 else [rows]
            yield UserBatch(parts, [len(users[user]) for user in chosen], self._collate)

    def _by_user(self) -> list[Sequence[Row]]:
        ends = np.cumsum(self._raw_sizes or [], dtype=int)
        starts = [0, *ends[:-1]]
        return [self._raw_rows[start:end] for start, end in zip(starts, ends, strict=False)]

    def _cut(self, rows: Sequence[Row], performance: Performance) -> Iterator[list[Row]]:
        lengths = [length_of(row) for row in rows]
        for positions in length_sorted_batches(lengths, performance):
            yield [rows[position] for position in positions]


class Sampler(Protocol):
    """What draws the sample of a step."""

    def draw(self, step: int) -> LogicalBatch:
        """Return the sample of one step."""
        ...


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
        chosen = _drawn(self._randomness, self._length, step, len(self._records))
        return LogicalBatch([self._records[index] for index in chosen], self._collate, step)


class UserSampler:
    """Draws every user, with all records, independently with the planned rate, at every step.

    Args:
        records: Encoded records.
        users: Which of them belong to whom.
        collate: Makes tensors of rows.
        length: Steps and sample rate, public; the rate is that of one user.
        randomness: Where the secret bits come from.

    Privacy:
        Exactly the sampling of `PrivacyPlan.mechanism` where the unit is a user
        (`test_users_are_sampled_whole_and_at_the_planned_rate`). Empty samples happen.
    """

    name = "Poisson: every user, with all records, independently at every step"

    def __init__(
        self,
        records: Sequence[Row],
        users: Users,
        collate: Collate,
        length: PlannedLength,
        randomness: SecretRandomness,
    ) -> None:
        """Keep what is needed; nothing is drawn yet."""
        self._records = records
        self._users = users
        self._collate = collate
        self._length = length
        self._randomness = randomness

    def draw(self, step: int) -> LogicalBatch:
        """Return the sample of one step.

        Raises:
            BrokenGuaranteeError: If the step is beyond the planned ones.
        """
        chosen = _drawn(self._randomness, self._length, step, len(self._users))
        owned = [self._users.records_of(user) for user in chosen]
        rows = [self._records[index] for positions in owned for index in positions]
        return LogicalBatch(rows, self._collate, step, [len(positions) for positions in owned])


def _drawn(
    randomness: SecretRandomness, length: PlannedLength, step: int, population: int
) -> list[int]:
    """Return which of a population enter a step."""
    if not 0 <= step < length.steps:
        raise BrokenGuaranteeError(
            f"Expected step={step} < steps={length.steps}. Every further step would cost "
            "privacy that was not accounted for. Plan more steps from the start."
        )
    chosen = randomness.poisson_sample(step, population, length.sample_rate)
    return [int(index) for index in np.asarray(chosen)]
