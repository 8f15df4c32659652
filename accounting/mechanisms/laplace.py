"""Laplace noise, on real numbers and on whole ones."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from dpft.accounting.mechanisms.adjacency import Adjacency
from dpft.accounting.mechanisms.fields import fields_as_json, settle
from dpft.accounting.rules import count_problems, effort_problems, positive_problems

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = [
    "DiscreteLaplace",
    "Laplace",
]

# A distribution of losses grows with both; strangers' certificates state them as well.
_LARGEST_EPSILON = 20  # of one release
_LARGEST_SENSITIVITY = 10_000


@dataclasses.dataclass(frozen=True)
class Laplace:
    """Answers under Laplace noise, repeated.

    Args:
        scale: Scale of the noise divided by the l1 sensitivity of the answer, >= 0.05, no unit. The
            sensitivity is that of the stated adjacency: under replace-one, the most by which
            exchanging one record moves the answer.
        steps: Number of releases, an integer >= 1.
        adjacency: The neighbouring relation.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One record moves each answer by at most its l1 sensitivity. Every noisy answer is
        released; each is 1/scale-private (`test_laplace_agrees_with_its_closed_form`). Assumed is
        exact real-valued noise: for counts use `DiscreteLaplace`.

    References:
        Dwork and Roth 2014, theorem 3.6.
    """

    kind: ClassVar[str] = "laplace"

    scale: float
    steps: int = 1
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        problems = positive_problems("scale", self.scale)
        settle(
            self,
            problems or effort_problems("1 / scale", 1 / self.scale, _LARGEST_EPSILON),
            count_problems("steps", self.steps),
        )

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of the Laplace mechanism; dp-accounting reads its multiplier against
            adding and removing, and refuses replace-one.

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        once = dp_accounting.LaplaceDpEvent(self.scale)
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
class DiscreteLaplace:
    """Counts under two-sided geometric noise, repeated.

    Args:
        decay: The noise is k with probability proportional to exp(-decay |k|); > 0.
        sensitivity: Largest change of the count by one record under the stated adjacency, an
            integer in [1, 10000].
        steps: Number of releases, an integer >= 1.
        adjacency: The neighbouring relation.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One record moves each count by at most `sensitivity`. Every noisy count is released; each
        is (decay x sensitivity)-private
        (`test_a_noisy_count_costs_what_randomised_response_costs`).

    References:
        Ghosh et al. 2009 (0811.2841), definition 2.1.
    """

    kind: ClassVar[str] = "discrete_laplace"

    decay: float
    sensitivity: int = 1
    steps: int = 1
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            positive_problems("decay", self.decay),
            count_problems("sensitivity", self.sensitivity),
            effort_problems("sensitivity", self.sensitivity, _LARGEST_SENSITIVITY),
            count_problems("steps", self.steps),
        )

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of the discrete Laplace mechanism.

        Privacy:
            Nothing, no data touched.
        """
        from dp_accounting import SelfComposedDpEvent
        from dp_accounting.dp_event import DiscreteLaplaceDpEvent

        return SelfComposedDpEvent(DiscreteLaplaceDpEvent(self.decay, self.sensitivity), self.steps)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)
