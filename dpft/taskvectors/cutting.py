"""Matrices of lower rank, each cut when it is asked for, with its exact error."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

from dpft.adapters.algebra import Delta, Dense, LowRank, Part
from dpft.adapters.algebra.layout import Layout
from dpft.adapters.algebra.weights import full_rank
from dpft.errors import ConfigurationError
from dpft.taskvectors.tensor_stream import refuse_infinite
from dpft.taskvectors.writing_groups import shape_of

__all__ = ["Cut", "CutParts", "cut_shapes"]


@dataclasses.dataclass(frozen=True)
class Cut:
    """How far matrices are cut: one of both is given.

    Args:
        rank: The rank of every matrix whose own is larger, >= 1.
        tolerance: Instead of it, the relative Frobenius error allowed for each matrix, in [0, 1).

    Raises:
        ConfigurationError: If not exactly one of both is given and in range.

    Privacy:
        Nothing, no data touched.
    """

    rank: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        """Check both."""
        rank, tolerance = self.rank, self.tolerance
        is_count = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1
        is_fraction = isinstance(tolerance, float) and 0 <= tolerance < 1
        if (rank is None) is (tolerance is None) or not (is_count or is_fraction):
            raise ConfigurationError(
                f"Expected one of rank={rank} >= 1 and tol={tolerance} in [0, 1). One of them "
                "decides what is kept. Give rank=16, or tol=0.01."
            )


class CutParts(Mapping[str, Part]):
    """Parts of a delta, cut when they are read; nothing is kept of them but two numbers each.

    Args:
        delta: Changes of weights.
        cut: How far they are cut.

    Privacy:
        Nothing, no data touched: a function of released weights.

    References:
        Eckart and Young 1936. The factors are reduced by QR, so that no matrix is formed.
    """

    def __init__(self, delta: Delta, cut: Cut) -> None:
        self._delta, self._cut = delta, cut
        self.errors: dict[str, float] = {}
        """By place, the relative Frobenius error of each matrix that was read."""
        self.ranks: dict[str, int] = {}
        """By place, the rank that was kept."""
        self._energies: dict[str, float] = {}

    def __getitem__(self, place: str) -> Part:
        part = self._delta.parts[place]
        if place in self._delta.heads or not _is_matrix(part):
            return part
        matrix = _factored(part)
        for factor in (matrix.left, matrix.right):
            refuse_infinite(place, factor)  # what has no singular values
        spectrum = matrix.spectrum()
        rank = min(self._cut.rank or 1, len(spectrum.values))
        if self._cut.tolerance is not None:
            rank = spectrum.rank_for(self._cut.tolerance)
        self.errors[place], self.ranks[place] = spectrum.error(rank), rank
        self._energies[place] = float(spectrum.values.square().sum())
        return matrix.truncated(spectrum, rank)

    def __iter__(self) -> Iterator[str]:
        return iter(self._delta.parts)

    def __len__(self) -> int:
        return len(self._delta.parts)

    @property
    def error(self) -> float:
        """Relative Frobenius error of all matrices together that were read."""
        total = math.fsum(self._energies.values())
        lost = math.fsum(self.errors[place] ** 2 * self._energies[place] for place in self.errors)
        return math.sqrt(lost / total) if total else 0.0


def cut_shapes(shapes: Delta, cut: Cut) -> Delta:
    """Return the shapes after a cut; with a tolerance the largest that there may be.

    Args:
        shapes: Parts of `shape_of`.
        cut: How far they are cut.

    Returns:
        Parts without content.

    Raises:
        ConfigurationError: If nothing is a matrix, or the rank is larger than that of any.

    Privacy:
        Nothing, no data touched.
    """
    matrices = {
        place: _factored(part)
        for place, part in shapes.parts.items()
        if place not in shapes.heads and _is_matrix(part)
    }
    ranks = {place: min(*part.left.shape, *part.right.shape) for place, part in matrices.items()}
    _refuse_above(cut.rank, list(ranks.values()))
    kept = {p: _narrowed(matrices[p], min(cut.rank or ranks[p], ranks[p])) for p in matrices}
    return dataclasses.replace(shapes, parts={**shapes.parts, **kept}, frozen_seed=None)


def _narrowed(part: LowRank, rank: int) -> Part:
    left, right = part.left[:, :rank], part.right[:rank]
    return shape_of(dataclasses.replace(part, left=left, right=right))


def _factored(part: Part) -> LowRank:
    assert isinstance(part, LowRank | Dense)
    if isinstance(part, LowRank):
        return part
    if part.layout is Layout.UNKNOWN:  # the spectrum is the same either way; the layout stays
        part = dataclasses.replace(part, layout=Layout.LINEAR)
    return full_rank(part)


def _is_matrix(part: Part) -> bool:
    if isinstance(part, Dense):
        return part.added.dim() == 2 and min(part.added.shape) > 0
    return isinstance(part, LowRank)


def _refuse_above(rank: int | None, ranks: list[int]) -> None:
    if not ranks:
        raise ConfigurationError(
            "Expected a matrix to be there. Only the rank of matrices is cut, and this kind of "
            "adapter has none. Leave rank and tolerance out."
        )
    if rank is not None and rank > max(ranks):
        raise ConfigurationError(
            f"Expected rank={rank} <= {max(ranks)}, the largest exact rank of a matrix. "
            "More cannot be kept than is there. Leave the vector as it is."
        )
