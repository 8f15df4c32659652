"""Which parts combine with which: those of a kind, and a low rank with a dense change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dpft.adapters.algebra.dense import Dense
from dpft.adapters.algebra.low_rank import LowRank
from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from dpft.adapters.algebra.delta import Part

__all__ = ["combine"]


def combine(terms: Sequence[tuple[float, "Part"]]) -> "Part":
    """Return the weighted sum of parts at one place.

    Args:
        terms: Weights and parts, at least one.

    Returns:
        The sum; a single part of weight 1 comes back as it is, bit for bit.

    Raises:
        ConfigurationError: If there is no exact sum.

    Privacy:
        Nothing, no data touched.
    """
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]
    kinds: set[Any] = {type(part) for _, part in terms}
    if kinds == {LowRank, Dense}:
        dense = [(weight, _dense(part)) for weight, part in terms]
        return Dense.combined(dense)
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ConfigurationError(
            f"Expected parts={names} at one place to be of one kind. There is no exact sum of "
            "them, and none is guessed. Take adapters of one kind."
        )
    summed: Part = kinds.pop().combined(terms)
    return summed


def _dense(part: "Part") -> Dense:
    assert isinstance(part, LowRank | Dense)
    return Dense(part.dense(), part.layout)
