"""Per-record gradients of a matrix as sums of outer products, never formed in full.

    G_b = sum_n left[b, n] right[b, n]^T

Shapes: B records, N terms a record (tokens), P rows, D columns. A side is dense, or one-hot where
a row was looked up by its index. Norms come from Gram matrices over terms, the clipped sum from one
matrix product over all records. May be imported by the engine only.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch

from dpft.engine.forms import gram_is_cheaper
from dpft.engine.grouping import Grouping

__all__ = ["Dense", "OneHot", "Outer", "gram_products", "raw_squared_norms", "row_norms"]

_MAX_ENTRIES = 2**24  # of one Gram matrix, or of gradients formed at a time; 64 MiB in float32
_ROW = 1024  # squares that may be added up one after the other
_CONFIDENCE = 4.0  # standard deviations of accumulated rounding that a norm is rounded up by


@dataclasses.dataclass(frozen=True)
class Dense:
    """A side whose terms are vectors.

    Args:
        values: Terms [B, N, P].

    Privacy:
        Raw: holds what the records' gradients are made of.
    """

    values: torch.Tensor

    @property
    def width(self) -> int:
        """Length P of a term."""
        return self.values.shape[2]

    @property
    def terms(self) -> int:
        """Number N of terms a record."""
        return self.values.shape[1]

    def records(self, chosen: slice) -> "Dense":
        """Return the same for some of the records, 16-bit values widened to float32."""
        values = self.values[chosen]
        return Dense(values.float() if values.dtype in (torch.float16, torch.bfloat16) else values)

    def joined(self, members_UR: torch.Tensor, present_UR: torch.Tensor) -> "Dense":
        """Return the terms of each user's records side by side, [U, R N, P]; absent ones zero."""
        terms = self.values[members_UR]
        if not bool(present_UR.all()):
            absent = ~present_UR[:, :, None, None]
            terms = terms.masked_fill(absent, 0.0)  # whatever stands there, also no number
        return Dense(terms.flatten(1, 2))

    def lengths(self) -> torch.Tensor:
        """Return the l2 norm [B, N] of every term."""
        return row_norms(self.values)


@dataclasses.dataclass(frozen=True)
class OneHot:
    """A side whose terms are unit vectors e_index.

    Args:
        index: Indices [B, N] in [0, width).
        width: Length of a term, >= 1.

    Privacy:
        Raw: holds the records' indices.
    """

    index: torch.Tensor
    width: int

    @property
    def terms(self) -> int:
        """Number N of terms a record."""
        return self.index.shape[1]

    def records(self, chosen: slice) -> "OneHot":
        """Return the same for some of the records."""
        return OneHot(self.index[chosen], self.width)

    def joined(self, members_UR: torch.Tensor) -> "OneHot":
        """Return the terms of each user's records side by side, [U, R N]; absent ones arbitrary."""
        return OneHot(self.index[members_UR].flatten(1), self.width)

    def lengths(self) -> torch.Tensor:
        """Return the l2 norm [B, N] of every term: one."""
        return torch.ones_like(self.index, dtype=torch.float32)


_Side = Dense | OneHot


@dataclasses.dataclass(frozen=True)
class Outer:
    """Per-record gradients [B, P, D] as sums of outer products.

    Args:
        left: Rows: terms of length P.
        right: Columns: terms of length D, as many as on the left.

    Privacy:
        Raw per-record gradients in another form: never logged, saved or returned
        (`tests/dpft/engine/test_outer.py` compares every method with the full form).

    References:
        Goodfellow 2015 (1510.01799) for N = 1; Li et al. 2021 (2110.05679), section 4; the single
        backward pass is that of Bu et al. 2022 (2210.00038).
    """

    left: _Side
    right: _Side

    @property
    def batch_size(self) -> int:
        """Number of records B."""
        side = self.left
        return len(side.index if isinstance(side, OneHot) else side.values)

    @property
    def terms(self) -> int:
        """Number N of terms a record."""
        return self.left.terms

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (P, D) of one record's gradient."""
        return (self.left.width, self.right.width)

    def transposed(self) -> "Outer":
        """Return the gradients of the transposed matrix."""
        return Outer(self.right, self.left)

    def records(self, chosen: slice) -> "Outer":
        """Return the same for some of the records, in float32 or better."""
        return Outer(self.left.records(chosen), self.right.records(chosen))

    def joined(self, grouping: Grouping) -> "Outer":
        """Return the gradients of users, each the sum over the user's records.

        A sum of sums of outer products is one with more terms; those of absent records are zero on
        a dense side, which makes their products zero.
        """
        left = self.left
        if isinstance(left, OneHot) and isinstance(self.right, OneHot):
            left = Dense(_values(left))
        members = grouping.members()
        return Outer(_side_by_side(left, *members), _side_by_side(self.right, *members))

    def instantiated(self) -> torch.Tensor:
        """Return the gradients in full, [B, P, D]."""
        wide = self.records(slice(None))
        left, right = wide.left, wide.right
        if isinstance(right, OneHot):
            return _scattered(right, _values(left)).transpose(1, 2)
        if isinstance(left, OneHot):
            return _scattered(left, right.values)
        return torch.bmm(left.values.transpose(1, 2), right.values)

    def add_weighted(self, factors_B: torch.Tensor, raw_sum_PD: torch.Tensor) -> None:
        """Add sum_b factors_b G_b to a matrix [P, D], in one product over all records.

        A record whose factor is zero adds exactly zero, whatever its entries.
        """
        wide = self.records(slice(None))
        left, right = _only_kept(wide.left, factors_B), _only_kept(wide.right, factors_B)
        if isinstance(right, OneHot):
            left, right, raw_sum_PD = right, left, raw_sum_PD.T
        values = _values(right)
        weighted = values * factors_B.to(values.dtype).view(-1, 1, 1)
        rows = weighted.flatten(0, 1).to(raw_sum_PD.dtype)
        if isinstance(left, OneHot):
            raw_sum_PD.index_add_(0, left.index.flatten(), rows)
        else:
            raw_sum_PD.addmm_(left.values.flatten(0, 1).T.to(raw_sum_PD.dtype), rows)


def raw_squared_norms(sites: Sequence[Outer]) -> torch.Tensor:
    """Return |sum of all sites' gradients|^2 for every record, rounded up.

    sum_ij sum_nm <left_i,n , left_j,m> <right_i,n , right_j,m>: the cross terms of a parameter
    used at several sites included.

    Args:
        sites: Gradients of one parameter [P, D] at its sites, at least one.

    Returns:
        Squared norms [B] in float32 or better, never below the exact ones but for a chance of
        less than 1e-4: terms that cancel would otherwise let rounding understate a norm. Products
        must be those of the type itself (`dpft.engine.precision`).

    Privacy:
        An upper bound of the norm keeps the contribution below the clip norm
        (`tests/dpft/engine/test_outer.py::test_norms_are_not_understated_when_terms_cancel`,
        `tests/dpft/engine/test_outer.py::test_norms_are_not_understated_when_all_entries_round_alike`).

    References:
        Higham and Mary 2019, theorem 2.4: rounding of n products grows as sqrt(n).
    """
    terms, shape = sum(site.terms for site in sites), sites[0].shape
    by_gram = gram_is_cheaper(gram_products(sites), terms, shape)
    entries = max(site.terms for site in sites) ** 2 if by_gram else math.prod(shape)
    norms = _norms_by_gram if by_gram else _norms_in_full
    chunks = _chunks(sites[0].batch_size, entries)
    return torch.cat([norms([site.records(chosen) for site in sites]) for chosen in chunks])


def gram_products(sites: Sequence[Outer]) -> int:
    """Return how many multiplications a record the Gram matrices of all pairs of sites take.

    Inner products with a one-hot side are looked up, not multiplied.
    """
    return sum(
        one.terms * other.terms * (_width(one.left, other.left) + _width(one.right, other.right))
        for i, one in enumerate(sites)
        for other in sites[: i + 1]
    )


def _width(one: _Side, other: _Side) -> int:
    return 1 if isinstance(one, OneHot) or isinstance(other, OneHot) else one.width


def _chunks(batch_size: int, entries: int) -> Iterator[slice]:
    """Cut the records so that what is formed of a chunk stays within its share of memory."""
    size = max(1, _MAX_ENTRIES // max(1, entries))
    for start in range(0, batch_size, size):
        yield slice(start, min(start + size, batch_size))


def row_norms(rows: torch.Tensor) -> torch.Tensor:
    """Return the l2 norm of every row, of any length.

    Args:
        rows: Rows [..., N].

    Returns:
        Norms [...] of the same type.

    Privacy:
        Raw. On the CPU torch adds the squares of a row one after the other, which in float32 may
        understate a norm of 2**24 entries by one percent, more than clipping allows for; so short
        pieces come first (`test_norms_of_many_equal_entries_are_exact`).
    """
    while (length := rows.shape[-1]) > _ROW:
        whole = length - length % _ROW
        pieces = rows[..., :whole].reshape(*rows.shape[:-1], whole // _ROW, _ROW)
        rows = torch.cat([torch.linalg.vector_norm(pieces, dim=-1), rows[..., whole:]], dim=-1)
    norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=-1)
    return norms


def _norms_in_full(sites: Sequence[Outer]) -> torch.Tensor:
    """Return the squared norms [B] by way of the gradients themselves, which are dropped."""
    total = sites[0].instantiated()
    for site in sites[1:]:
        total += site.instantiated()
    sizes_B = _total([site.left.lengths() * site.right.lengths() for site in sites])
    relative = _CONFIDENCE * math.sqrt(sum(site.terms for site in sites))
    roundoff = torch.finfo(total.dtype).eps / 2
    return (row_norms(total.flatten(1)) + relative * roundoff * sizes_B).square()


def _norms_by_gram(sites: Sequence[Outer]) -> torch.Tensor:
    total: torch.Tensor | None = None
    for i, one in enumerate(sites):
        for j, other in enumerate(sites[: i + 1]):
            product = _inner(one, other) * (1 if i == j else 2)
            total = product if total is None else total + product
    assert total is not None
    return total.clamp(min=0) + _rounding(sites, total.dtype)


def _inner(one: Outer, other: Outer) -> torch.Tensor:
    """Return <G_b, G'_b> for every record."""
    if one is other and one.terms == 1:
        return (one.left.lengths() * one.right.lengths()).square().sum(1)
    return (_gram(one.left, other.left) * _gram(one.right, other.right)).sum((1, 2))


def _gram(one: _Side, other: _Side) -> torch.Tensor:
    """Return the inner products [B, N, M] of all terms of two sides."""
    if isinstance(one, OneHot) and isinstance(other, OneHot):
        return (one.index.unsqueeze(2) == other.index.unsqueeze(1)).float()
    if isinstance(one, OneHot):
        return _gram(other, one).transpose(1, 2)
    if isinstance(other, OneHot):
        index = other.index.unsqueeze(1).expand(-1, one.terms, -1)
        return one.values.gather(2, index)
    return torch.bmm(one.values, other.values.transpose(1, 2))


def _rounding(sites: Sequence[Outer], dtype: torch.dtype) -> torch.Tensor:
    """Return how much rounding and underflow may have taken from the squared norms [B]."""
    lefts = [site.left.lengths().to(dtype) for site in sites]
    rights = [site.right.lengths().to(dtype) for site in sites]
    sizes_B = _total([left * right for left, right in zip(lefts, rights, strict=True)])
    rows, columns = sites[0].shape
    terms = sum(site.terms for site in sites)
    roundoff = torch.finfo(dtype).eps / 2
    relative = _CONFIDENCE * math.sqrt(rows + columns + terms) * roundoff
    # a product below the smallest normal number may vanish, whatever the other side makes of it
    tiny = torch.finfo(dtype).tiny
    vanished = rows * _total(rights).square() + columns * _total(lefts).square() + terms**2
    return relative * sizes_B.square() + tiny * vanished


def _total(each: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum [B] over all terms of all sites."""
    return torch.stack([terms_BN.sum(1) for terms_BN in each]).sum(0)


def _scattered(rows: OneHot, values_BND: torch.Tensor) -> torch.Tensor:
    full = values_BND.new_zeros(len(values_BND), rows.width, values_BND.shape[2])
    index = rows.index.unsqueeze(2).expand(-1, -1, values_BND.shape[2])
    return full.scatter_add_(1, index, values_BND)


def _side_by_side(side: _Side, members_UR: torch.Tensor, present_UR: torch.Tensor) -> _Side:
    """Return the terms of each user's records side by side."""
    if isinstance(side, OneHot):
        return side.joined(members_UR)
    return side.joined(members_UR, present_UR)


def _values(side: _Side) -> torch.Tensor:
    """Return the terms [B, N, P] of a side; a one-hot one, which is rare here, in full."""
    if isinstance(side, Dense):
        return side.values
    return torch.nn.functional.one_hot(side.index, side.width).float()


def _only_kept(side: _Side, factors_B: torch.Tensor) -> _Side:
    """Return a side whose records of factor zero are zero: zero times infinity is not."""
    kept_B = factors_B > 0
    if isinstance(side, OneHot) or bool(kept_B.all()):
        return side
    zero = side.values.new_zeros(())
    return Dense(torch.where(kept_B.view(-1, 1, 1), side.values, zero))
