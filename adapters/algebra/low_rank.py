"""A change of a weight matrix as the product of two factors.

Sums are taken by concatenation, never by averaging factors: (sum B_i)(sum A_i) has all cross terms
B_i A_j beside the right ones.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from dpft.adapters.algebra.layout import Layout
from dpft.adapters.algebra.linear import same_shape, weighted_sum
from dpft.errors import ConfigurationError

__all__ = ["LowRank", "Spectrum", "shares_right"]


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of a matrix with their vectors, in double precision.

    Args:
        left: [D, Q], orthonormal columns.
        values: [Q], falling.
        right: [Q, K], orthonormal rows.
    """

    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor

    def error(self, rank: int) -> float:
        """Return the relative Frobenius error of the best matrix of a rank.

        Args:
            rank: Number of values kept, >= 0.

        Privacy:
            Nothing, no data touched.

        References:
            Eckart and Young 1936: sqrt(sum of the squares left out / sum of all squares).
        """
        squares = self.values.square()
        total = float(squares.sum())
        return 0.0 if total == 0 else (float(squares[rank:].sum()) / total) ** 0.5

    def rank_for(self, tolerance: float) -> int:
        """Return the smallest rank, at least 1, whose error is at most a tolerance.

        Args:
            tolerance: Relative Frobenius error, in [0, 1).

        Privacy:
            Nothing, no data touched.
        """
        ranks = range(1, len(self.values) + 1)
        return next(rank for rank in ranks if self.error(rank) <= tolerance)


@dataclasses.dataclass(frozen=True, eq=False)
class LowRank:
    """The matrix left @ right, [D, K]: D outputs, K inputs, rank R.

    Args:
        left: [D, R]; weight, sign and scaling of the adapter are in this factor alone.
        right: [R, K].
        layout: How the model stores the weight.
    """

    left: torch.Tensor
    right: torch.Tensor
    layout: Layout = Layout.LINEAR

    @property
    def rank(self) -> int:
        """R, the width of the factors."""
        return len(self.right)

    def dense(self) -> torch.Tensor:
        """Return the matrix as the model stores it.

        Privacy:
            Nothing, no data touched.
        """
        product = (self.left.double() @ self.right.double()).to(self.left.dtype)
        return product.T if self.layout.is_transposed else product

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Return the tensors that it consists of, by name.

        Privacy:
            Nothing, no data touched.
        """
        return {"left": self.left, "right": self.right}

    def trained(self) -> torch.Tensor:
        """Return what began at zero, so that its cosine with another tells of shared noise.

        Privacy:
            Nothing, no data touched.
        """
        return self.right if self.layout is Layout.EMBEDDING else self.left  # as peft starts them

    def spectrum(self) -> Spectrum:
        """Return the singular values without forming the matrix: QR of both factors, SVD of R x R.

        Privacy:
            Nothing, no data touched.
        """
        left_q, left_r = torch.linalg.qr(self.left.double())
        right_q, right_r = torch.linalg.qr(self.right.double().T)
        left, values, right = torch.linalg.svd(left_r @ right_r.T, full_matrices=False)
        return Spectrum(left_q @ left, values, right @ right_q.T)

    def truncated(self, spectrum: Spectrum, rank: int) -> "LowRank":
        """Return the best matrix of a rank.

        Args:
            spectrum: Of this matrix.
            rank: At least 1.

        Privacy:
            Nothing, no data touched.
        """
        left = spectrum.left[:, :rank] * spectrum.values[:rank]
        dtype = self.left.dtype
        return dataclasses.replace(self, left=left.to(dtype), right=spectrum.right[:rank].to(dtype))

    @classmethod
    def combined(cls, terms: Sequence[tuple[float, "LowRank"]]) -> "LowRank":
        """Return the weighted sum, exactly.

        Args:
            terms: Weights and parts, at least one.

        Returns:
            Of the same rank where all second factors are equal, as with FFA-LoRA of one seed;
            otherwise of the sum of the ranks.

        Raises:
            ConfigurationError: If shapes differ.

        Privacy:
            Nothing, no data touched.
        """
        parts = [part for _, part in terms]
        _check_sides(parts)
        first = parts[0]
        if all(shares_right(first, part) for part in parts[1:]):
            left = weighted_sum([(weight, part.left) for weight, part in terms])
            return dataclasses.replace(first, left=left)
        lefts = [weighted_sum([(weight, part.left)]) for weight, part in terms]
        rights = [part.right for part in parts]
        return dataclasses.replace(first, left=torch.cat(lefts, 1), right=torch.cat(rights))


def shares_right(one: LowRank, other: LowRank) -> bool:
    """Return whether two parts have the same second factor, bit for bit.

    Args:
        one: A part.
        other: Another.

    Privacy:
        Nothing, no data touched.
    """
    return one.right is other.right or torch.equal(one.right, other.right)


def _check_sides(parts: Sequence[LowRank]) -> None:
    same_shape([part.left[:, :1] for part in parts])
    same_shape([part.right[:1] for part in parts])
    if len({part.layout for part in parts}) > 1:
        raise ConfigurationError(
            "Expected layout to be the same for all deltas of one weight. One of them was "
            "made for another kind of layer. Take adapters of the same base model."
        )
