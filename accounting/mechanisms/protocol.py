"""What all mechanisms have in common. The allow-list of those that exist is `reading.py`."""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dpft.accounting.mechanisms.adjacency import Adjacency

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = ["Mechanism"]


class Mechanism(Protocol):
    """A frozen, hashable value that says what was released, and how it was protected."""

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def adjacency(self) -> Adjacency:
        """Return the neighbouring relation for which the mechanism is stated."""

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            An event that means the same, or an `UnsupportedDpEvent` where dp-accounting has none;
            its accountants refuse that one.

        Privacy:
            Nothing, no data touched.
        """

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """

    def __hash__(self) -> int:
        """Mechanisms are values: equal ones are grouped, and results are remembered per value."""
