"""Vectors of lower rank, with the exact error of each matrix."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dpft.adapters.algebra import Delta, Dense, LowRank, Part
from dpft.adapters.algebra.layout import Layout
from dpft.adapters.algebra.low_rank import Spectrum
from dpft.adapters.algebra.weights import full_rank
from dpft.errors import ConfigurationError

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


@dataclasses.dataclass(frozen=True)
class _Cut:
    """One matrix with its spectrum, and how much of it is kept."""

    part: LowRank
    spectrum: Spectrum
    rank: int

    @property
    def error(self) -> float:
        return self.spectrum.error(self.rank)

    @property
    def energy(self) -> float:
        return float(self.spectrum.values.square().sum())


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
        Eckart and Young 1936. The factors are reduced by QR, so that no matrix is formed.
    """
    _check(rank, tolerance)
    parts = {place: delta.parts[place] for place in delta.parts}
    matrices = {p: part for p, part in parts.items() if _is_matrix(part) and p not in delta.heads}
    cuts = {place: _cut(part, rank, tolerance) for place, part in matrices.items()}
    _refuse_above(rank, cuts)
    total = math.fsum(cut.energy for cut in cuts.values())
    lost = math.fsum(cut.error**2 * cut.energy for cut in cuts.values())
    kept = {place: cut.part.truncated(cut.spectrum, cut.rank) for place, cut in cuts.items()}
    errors = {place: cut.error for place, cut in cuts.items()}
    made = dataclasses.replace(delta, parts=parts | kept, frozen_seed=None)
    return made, errors, math.sqrt(lost / total) if total else 0.0


def _cut(part: Part, rank: int | None, tolerance: float | None) -> _Cut:
    matrix = part if isinstance(part, LowRank) else full_rank(_dense(part))
    spectrum = matrix.spectrum()
    if tolerance is not None:
        return _Cut(matrix, spectrum, spectrum.rank_for(tolerance))
    return _Cut(matrix, spectrum, min(rank or 1, len(spectrum.values)))


def _dense(part: Part) -> Dense:
    assert isinstance(part, Dense)
    if part.layout is Layout.UNKNOWN:  # the spectrum is the same either way; the layout stays
        return dataclasses.replace(part, layout=Layout.LINEAR)
    return part


def _is_matrix(part: Part) -> bool:
    if isinstance(part, Dense):
        return part.added.dim() == 2 and min(part.added.shape) > 0
    return isinstance(part, LowRank)


def _check(rank: int | None, tolerance: float | None) -> None:
    is_count = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1
    is_fraction = isinstance(tolerance, float) and 0 <= tolerance < 1
    if (rank is None) is (tolerance is None) or not (is_count or is_fraction):
        raise ConfigurationError(
            f"Expected one of rank={rank} >= 1 and tol={tolerance} in [0, 1). One of them decides "
            "what is kept. Give rank=16, or tol=0.01."
        )


def _refuse_above(rank: int | None, cuts: Mapping[str, _Cut]) -> None:
    ranks = [len(cut.spectrum.values) for cut in cuts.values()]
    if not ranks or (rank is not None and rank > max(ranks)):
        raise ConfigurationError(
            f"Expected rank={rank} <= {max(ranks, default=0)}, the largest exact rank of a matrix. "
            "More cannot be kept than is there. Leave the vector as it is."
        )
