"""Gaussian noise without amplification by sampling: full batches, and batches of any other kind."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from dpft.accounting.mechanisms.adjacency import Adjacency
from dpft.accounting.mechanisms.fields import (
    fields_as_json,
    narrowed_adjacency_problems,
    settle,
)
from dpft.accounting.rules import count_problems, positive_problems

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = [
    "FixedBatchGaussian",
    "Gaussian",
]


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A sum of all clipped records under Gaussian noise, repeated.

    Args:
        noise_multiplier: Noise std divided by the clip norm C, > 0 and finite, no unit. The same
            ratio under every adjacency; the accountant knows that replace-one moves the sum by 2C.
        steps: Number of releases, an integer >= 1.
        adjacency: The neighbouring relation.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One record moves each sum by at most C (by 2C under replace-one). Every noisy sum is
        released (`test_the_gaussian_agrees_with_its_closed_form`).

    References:
        Balle and Wang 2018 (1805.06530), theorem 8.
    """

    kind: ClassVar[str] = "gaussian"

    noise_multiplier: float
    steps: int = 1
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            positive_problems("noise_multiplier", self.noise_multiplier),
            count_problems("steps", self.steps),
        )

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of the Gaussian.

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        once = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        return dp_accounting.SelfComposedDpEvent(once, self.steps)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)


@dataclasses.dataclass(frozen=True)
class FixedBatchGaussian:
    """Sums of clipped records under Gaussian noise, over batches that are no Poisson samples.

    Shuffled, sorted, fixed once: however the batches are chosen, as long as the choice does not
    look at the records. Nothing is gained from the sampling.

    Args:
        noise_multiplier: Noise std divided by the clip norm C, > 0 and finite, no unit.
        steps: Number of steps, an integer >= 1.
        participations: In how many steps one record takes part at most, an integer in [1, steps];
            the number of epochs if every epoch uses each record once.
        adjacency: `zero_out` or `replace_one`. Not `add_or_remove`: in a batch of a fixed size
            another record takes the place of one that leaves.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One record moves at most `participations` of the sums, each by at most C (by 2C under
        replace-one); the cost is that of so many releases of `Gaussian`
        (`test_fixed_batches_cost_as_many_full_releases`).

    References:
        Chua et al. 2024 (2403.17673): shuffled batches must not be booked as Poisson samples.
    """

    kind: ClassVar[str] = "fixed_batch_gaussian"

    noise_multiplier: float
    steps: int
    participations: int
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            positive_problems("noise_multiplier", self.noise_multiplier),
            count_problems("steps", self.steps),
            count_problems("participations", self.participations)
            or _participation_problems(self.participations, self.steps),
            narrowed_adjacency_problems(
                self.adjacency,
                (Adjacency.ZERO_OUT, Adjacency.REPLACE_ONE),
                "In a batch of a fixed size another record takes the place of one that leaves.",
            ),
        )

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of as many Gaussians as one record takes part in.

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        once = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        return dp_accounting.SelfComposedDpEvent(once, self.participations)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)


def _participation_problems(participations: int, steps: object) -> list[str]:
    if not isinstance(steps, int) or participations <= steps:
        return []
    message = (
        f"Expected participations={participations} <= steps={steps}. One record takes part at most "
        "once per step. Set participations to the number of epochs."
    )
    return [message]
