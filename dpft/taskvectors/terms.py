"""Terms of a linear form: leaves with coefficients, in one order, none of them zero."""

import dataclasses
from collections.abc import Iterable
from fractions import Fraction

from dpft.taskvectors.leaf import Leaf

__all__ = ["Term", "collected"]


@dataclasses.dataclass(frozen=True)
class Term:
    """A leaf with its coefficient.

    Args:
        leaf: One delta.
        coefficient: Exact, not zero.
    """

    leaf: Leaf
    coefficient: Fraction


def collected(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Add up the coefficients of each leaf, and drop leaves that cancelled.

    Args:
        terms: Any number, in any order.

    Returns:
        One term for each leaf that is left, by id.

    Privacy:
        Nothing, no data touched. A leaf that is dropped leaves no trace in any tensor, so that its
        runs are dropped as well (`test_what_cancels_leaves_no_trace`).
    """
    leaves: dict[str, Leaf] = {}
    sums: dict[str, Fraction] = {}
    for term in terms:
        leaves[term.leaf.id] = term.leaf
        sums[term.leaf.id] = sums.get(term.leaf.id, Fraction(0)) + term.coefficient
    return tuple(Term(leaves[name], sums[name]) for name in sorted(sums) if sums[name])
