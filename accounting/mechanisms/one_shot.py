"""Releases that happen once and are known by their guarantee, not by their noise."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from dpft.accounting.mechanisms.adjacency import Adjacency
from dpft.accounting.mechanisms.fields import fields_as_json, settle
from dpft.accounting.rules import fraction_problems, positive_problems

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = [
    "Opaque",
    "Selection",
]


@dataclasses.dataclass(frozen=True)
class Selection:
    """The best of several candidates, by the exponential mechanism or report-noisy-max.

    Args:
        epsilon: The pure guarantee of the selection, finite, > 0.
        adjacency: The neighbouring relation for which it holds.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        Any epsilon-private selection; only the choice is released. It is charged as the worst
        mechanism that is epsilon-private: the tighter bounded range of the exponential mechanism
        is not used, since report-noisy-max does not have it
        (`test_selections_cost_what_randomised_response_costs`).

    References:
        McSherry and Talwar 2007; Kairouz et al. 2015 (1311.0776), theorem 3.3.
    """

    kind: ClassVar[str] = "selection"

    epsilon: float
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(self, positive_problems("epsilon", self.epsilon))

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            An unsupported event: dp-accounting 0.6 has none for pure guarantees.

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        return dp_accounting.UnsupportedDpEvent()

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A release of which one pair (epsilon, delta) is known, and nothing else.

    Args:
        epsilon: Finite, > 0.
        delta: In [0, 1).
        adjacency: The neighbouring relation for which it holds.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        Whatever is (epsilon, delta)-private; it is charged as the worst such mechanism, so the
        stated pair is all one needs to trust (`test_an_opaque_release_costs_what_it_states`).

    References:
        Kairouz et al. 2015 (1311.0776), theorem 3.3.
    """

    kind: ClassVar[str] = "opaque"

    epsilon: float
    delta: float
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        pure = isinstance(self.delta, int | float) and not isinstance(self.delta, bool)
        settle(
            self,
            positive_problems("epsilon", self.epsilon),
            [] if pure and self.delta == 0 else fraction_problems("delta", self.delta),
        )

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            An unsupported event: dp-accounting 0.6 has none for (epsilon, delta).

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        return dp_accounting.UnsupportedDpEvent()

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)
