"""A tensor that was moved from a recorded start: factors of (IA)³, prompts, biases, heads."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from dpft.adapters.algebra.linear import same_shape, weighted_sum
from dpft.errors import ConfigurationError

__all__ = ["Offset", "refuse_other_starts"]


@dataclasses.dataclass(frozen=True, eq=False)
class Offset:
    """Where a tensor is, and where it began: the delta is value - start.

    Args:
        value: What the adapter holds.
        start: What it held before training, of the same shape; None if nobody recorded it.
    """

    value: torch.Tensor
    start: torch.Tensor | None

    def moved(self) -> torch.Tensor:
        """Return value - start, in double precision.

        Raises:
            ConfigurationError: If the start is unknown.

        Privacy:
            Nothing, no data touched.
        """
        if self.start is None:
            raise ConfigurationError(_without_start())
        same_shape([self.value, self.start])
        return self.value.double() - self.start.double()

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Return the tensors that it consists of, by name.

        Privacy:
            Nothing, no data touched.
        """
        return {"value": self.value} | ({} if self.start is None else {"start": self.start})

    def trained(self) -> torch.Tensor | None:
        """Return what began at zero; None if that is unknown.

        Privacy:
            Nothing, no data touched.
        """
        return None if self.start is None else self.moved()

    def at(self, moved: torch.Tensor) -> "Offset":
        """Return the part that was moved by another amount from the same start.

        Args:
            moved: Of the same shape.

        Raises:
            ConfigurationError: If the start is unknown.

        Privacy:
            Nothing, no data touched.
        """
        if self.start is None:
            raise ConfigurationError(_without_start())
        value = (self.start.double() + moved.double()).to(self.value.dtype)
        return Offset(value, self.start)

    @classmethod
    def combined(cls, terms: Sequence[tuple[float, "Offset"]]) -> "Offset":
        """Return start + sum of w_i (value_i - start).

        Args:
            terms: Weights and parts, at least one.

        Raises:
            ConfigurationError: If a start is unknown, or they differ.

        Privacy:
            Nothing, no data touched.
        """
        first = terms[0][1]
        refuse_other_starts([part for _, part in terms])
        return first.at(weighted_sum([(weight, part.moved()) for weight, part in terms]))


def refuse_other_starts(parts: Sequence[Offset]) -> None:
    """Refuse parts that were not moved from one start.

    Args:
        parts: At least one.

    Raises:
        ConfigurationError: If a start is unknown, or they differ.

    Privacy:
        Nothing, no data touched.
    """
    starts = [part.start for part in parts if part.start is not None]
    if len(starts) < len(parts):
        raise ConfigurationError(_without_start())
    same_shape(starts)
    if not all(torch.equal(starts[0], start) for start in starts[1:]):
        raise ConfigurationError(
            "Expected start of all deltas to be the same tensor. A difference from one start means "
            "nothing at another. Train from the same recorded start, or leave this part out: "
            "without_heads() for a head, mixture() for prompts."
        )


def _without_start() -> str:
    return (
        "Expected start to be recorded. Where a trained tensor began is not in peft's file, and a "
        "difference from an unknown start is none. Give start= (or base= for a head or biases) "
        "when the adapter is read, or combine prompts by mixture()."
    )
