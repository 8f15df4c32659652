"""Mechanisms made of others: several on the same data, and the best of many repetitions."""

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

from dpft.accounting.mechanisms.adjacency import Adjacency
from dpft.accounting.mechanisms.fields import fields_as_json, settle
from dpft.accounting.mechanisms.protocol import Mechanism
from dpft.accounting.rules import positive_problems

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = [
    "POISSON",
    "Composed",
    "RepeatAndSelect",
]

POISSON = "poisson"  # the shape of a Poisson number of repetitions, the limit of the others


@dataclasses.dataclass(frozen=True)
class Composed:
    """Several mechanisms on the same data that are released together.

    Args:
        parts: At least one mechanism, all with the stated adjacency, such as a training run and
            the noisy score of its result.
        adjacency: The neighbouring relation.

    Raises:
        ConfigurationError: If there are no parts, or one has another adjacency.

    Privacy:
        Nothing beyond its parts (`test_composed_parts_cost_what_they_cost_side_by_side`).
    """

    kind: ClassVar[str] = "composed"

    parts: tuple[Mechanism, ...]
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(self, _parts_problems(self.parts, self.adjacency))
        object.__setattr__(self, "parts", tuple(self.parts))

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Composition of the events of all parts.

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        return dp_accounting.ComposedDpEvent([part.event() for part in self.parts])

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)


@dataclasses.dataclass(frozen=True)
class RepeatAndSelect:
    """A mechanism run a random number of times, of which the best result alone is released.

    Args:
        base: What is run each time, its score included: the score must be a function of what the
            base releases (use `Composed` if the score costs something of its own).
        mean: Mean number of repetitions, finite, >= 1.
        shape: Shape of the truncated negative binomial distribution of that number, >= 0: 0 is
            logarithmic, 1 geometric; or `poisson`.
        adjacency: The neighbouring relation, that of the base.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        Released is the best result alone: neither the number of repetitions nor any other result
        or score. Bounded in RDP only
        (`test_repeat_and_select_agrees_with_dp_accounting`).

    References:
        Papernot and Steinke 2021 (2110.03620), theorems 2 and 6.
    """

    kind: ClassVar[str] = "repeat_and_select"

    base: Mechanism
    mean: float
    shape: float | str
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            _parts_problems((self.base,), self.adjacency),
            _mean_problems(self.mean),
            _shape_problems(self.shape),
        )
        if not isinstance(self.shape, str):
            object.__setattr__(self, "shape", float(self.shape))

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Its repeat-and-select event, in which an infinite shape means Poisson.

        Privacy:
            Nothing, no data touched.
        """
        from dp_accounting.dp_event import RepeatAndSelectDpEvent

        shape = math.inf if self.shape == POISSON else self.shape
        return RepeatAndSelectDpEvent(self.base.event(), self.mean, shape)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)


def _parts_problems(parts: object, adjacency: object) -> list[str]:
    if not isinstance(parts, tuple | list) or not parts:
        message = (
            f"Expected parts={parts!r} to be one or more mechanisms. What is not described cannot "
            "be bounded. List every access to the data."
        )
        return [message]
    return [problem for part in parts for problem in _part_problems(part, adjacency)]


def _part_problems(part: object, adjacency: object) -> list[str]:
    own = getattr(part, "adjacency", None)
    if not isinstance(own, Adjacency) or not hasattr(part, "kind") or isinstance(part, type):
        message = (
            f"Expected {part!r} to be a mechanism. What is not described cannot be bounded. "
            "Describe it by a mechanism, such as Opaque."
        )
        return [message]
    if own == adjacency:
        return []
    message = (
        f"Expected adjacency={getattr(adjacency, 'value', adjacency)} to be that of its parts, "
        f"{own.value}. A guarantee holds for one neighbouring relation. State one for all of them."
    )
    return [message]


def _mean_problems(mean: object) -> list[str]:
    problems = positive_problems("mean", mean)
    if problems or (isinstance(mean, int | float) and mean >= 1):
        return problems
    message = (
        f"Expected mean={mean!r} >= 1. It is the mean number of repetitions, and the bound holds "
        "from one on. Set mean to at least 1."
    )
    return [message]


def _shape_problems(shape: object) -> list[str]:
    number = isinstance(shape, int | float) and not isinstance(shape, bool)
    if shape == POISSON or (number and (shape == 0 or not positive_problems("shape", shape))):
        return []
    message = (
        f"Expected shape={shape!r} to be a finite number >= 0, or {POISSON}. The bound is proven "
        "for these numbers of repetitions alone. Set shape to 1 for a geometric number."
    )
    return [message]
