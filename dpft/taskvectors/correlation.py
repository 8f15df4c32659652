"""Whether two deltas can have taken their noise from one source.

Noise that two runs share is taken off by subtracting one from the other, and the composition of
their certificates is void. Deltas of independent private runs are nearly orthogonal: measured
cosines were below 0.005 in absolute value, and 0.94 to 0.975 where a seed had been used again
(MiniLM, four tasks, epsilon 8).
"""

import itertools
import math
from collections.abc import Iterable
from typing import TypeVar

import torch

from dpft.adapters.algebra import Delta, LowRank
from dpft.errors import BrokenGuaranteeError
from dpft.taskvectors.leaf import Leaf

__all__ = ["MOST", "cosine", "refuse_shared_noise"]

_Any = TypeVar("_Any")
MOST = 0.5
"""Above this absolute cosine two private runs are taken to share their noise."""


def refuse_shared_noise(these: Iterable[Leaf], those: Iterable[Leaf]) -> None:
    """Refuse two deltas of different private runs that point the same way.

    Args:
        these: Leaves that were checked among each other.
        those: Others that were.

    Raises:
        BrokenGuaranteeError: If the absolute cosine of a pair is above `MOST`.

    Privacy:
        Looks at released weights only (`test_shared_noise_is_refused`). Fails closed: two runs on
        one task at so little noise that their signals agree are refused as well. Deltas that share
        a run are not compared, since that run's certificate covers all of its iterates.
    """
    for one, other in itertools.product(these, those):
        if one == other or one.run_ids & other.run_ids or not _are_private(one, other):
            continue
        found = cosine(one.delta, other.delta)
        if abs(found) > MOST:
            raise BrokenGuaranteeError(
                f"Expected |cosine|={abs(found):.3f} <= {MOST} between the deltas of two private "
                f"runs, {_name(one)} and {_name(other)}. Independent noise is nearly orthogonal; "
                "shared noise is taken off by subtraction. Train one of them again with fresh "
                "randomness."
            )


def cosine(one: Delta, other: Delta) -> float:
    """Return the cosine of what two deltas moved from zero, the larger of two readings.

    Args:
        one: A delta.
        other: Another one.

    Returns:
        In [-1, 1]: of the trained factors where their shapes agree, or of the products of low-rank
        factors; 0 where nothing can be compared.

    Privacy:
        Nothing, no data touched: released weights.
    """
    places = sorted(set(one.parts) & set(other.parts))
    factors, products = _Sums(), _Sums()
    for place in places:
        first, second = one.parts[place], other.parts[place]
        if isinstance(first, LowRank) and isinstance(second, LowRank):
            products.add(*(_product(*pair) for pair in _pairs(first, second)))
        moved, others = first.trained(), second.trained()
        if moved is not None and others is not None and moved.shape == others.shape:
            factors.add(*(_inner(*pair) for pair in _pairs(moved, others)))
    return max(factors.cosine, products.cosine, key=abs)


class _Sums:
    """Inner products summed over places: of one with the other, and of each with itself."""

    def __init__(self) -> None:
        self._sums = [0.0, 0.0, 0.0]

    def add(self, across: float, one: float, other: float) -> None:
        """Add the inner products at one place."""
        self._sums = [
            total + each for total, each in zip(self._sums, (across, one, other), strict=True)
        ]

    @property
    def cosine(self) -> float:
        """The cosine, 0 where one of them is zero."""
        across, one, other = self._sums
        return across / math.sqrt(one * other) if one > 0 and other > 0 else 0.0


def _pairs(one: _Any, other: _Any) -> tuple[tuple[_Any, _Any], ...]:
    return (one, other), (one, one), (other, other)


def _inner(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() * other.double()).sum())


def _product(one: LowRank, other: LowRank) -> float:
    """Return <L1 R1, L2 R2> from the factors alone."""
    if len(one.left) != len(other.left) or one.right.shape[1] != other.right.shape[1]:
        return 0.0
    lefts = one.left.double().T @ other.left.double()
    rights = one.right.double() @ other.right.double().T
    return float((lefts * rights).sum())


def _are_private(*leaves: Leaf) -> bool:
    return all(leaf.certificate.is_bounded for leaf in leaves)


def _name(leaf: Leaf) -> str:
    return ", ".join(sorted(name[:8] for name in leaf.run_ids))
