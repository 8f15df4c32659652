"""Vectors of lower rank, with the exact error of each matrix."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dpft.adapters.algebra import Delta
from dpft.taskvectors.cutting import Cut, CutParts, cut_shapes
from dpft.taskvectors.writing_groups import shape_of

if TYPE_CHECKING:
    from dpft.taskvectors.vector import TaskVector

__all__ = ["Compression", "compressed"]


@dataclasses.dataclass(frozen=True)
class Compression:
    """A vector of lower rank, and what that cost.

    Args:
        vector: The vector.
        errors: By place, the relative Frobenius error of the matrix: exact, not an estimate.
        error: That of all matrices together.

    Privacy:
        Nothing, no data touched: a function of released weights.
    """

    vector: "TaskVector"
    errors: Mapping[str, float]
    error: float


def compressed(
    delta: Delta, rank: int | None, tolerance: float | None
) -> tuple[Delta, dict[str, float], float]:
    """Cut every matrix of a delta.

    Args:
        delta: Changes of weights.
        rank: The rank of every matrix whose own is larger, or None.
        tolerance: The relative Frobenius error allowed for each matrix, or None.

    Returns:
        The delta, the errors by place, and the error of all matrices together.

    Raises:
        ConfigurationError: If not exactly one of both is given, it is out of range, the rank is
            larger than that of any matrix, or nothing is a matrix.

    Privacy:
        Nothing, no data touched: a function of released weights.

    References:
        `dpft.taskvectors.cutting`.
    """
    cut = Cut(rank, tolerance)
    shapes = {place: shape_of(delta.parts[place]) for place in delta.parts}
    cut_shapes(dataclasses.replace(delta, parts=shapes), cut)  # refuses before anything is computed
    cuts = CutParts(delta, cut)
    made = dataclasses.replace(delta, parts=dict(cuts), frozen_seed=None)
    return made, cuts.errors, cuts.error
