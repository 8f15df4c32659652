"""Which runs one record can have taken part in together: maximal cliques of the overlap graph.

A record lies in runs that overlap pairwise, so the sets of runs to be paid for together are the
maximal cliques. What is taken to overlap is decided by the caller; nothing here knows of runs.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["MOST_CLIQUES", "maximal_cliques"]

MOST_CLIQUES = 512

_Node = TypeVar("_Node")


def maximal_cliques(
    nodes: Sequence[_Node], overlaps: Callable[[_Node, _Node], bool]
) -> tuple[tuple[_Node, ...], ...]:
    """Return the largest sets of nodes that overlap pairwise.

    Args:
        nodes: Any number of nodes; told apart by their place, so that they need not be hashable.
        overlaps: Whether two nodes may share a record. Asked in both orders; one yes is enough.

    Returns:
        The sets, each in the order of `nodes`, in lexical order of their places. Every node is in
        at least one of them. If there are more than `MOST_CLIQUES`, one set of all nodes, which
        costs at least as much as any clique.

    Privacy:
        Nothing, no data touched. A set of pairwise overlapping nodes is always inside one of the
        sets returned (`tests/accounting/test_overlap.py`).

    References:
        Tomita, Tanaka, Takahashi 2006, algorithm CLIQUES (Bron-Kerbosch with a pivot).

    Example:
        >>> maximal_cliques("abc", lambda a, b: {a, b} != {"a", "c"})
        (('a', 'b'), ('b', 'c'))
    """
    found = _cliques(_neighbours(nodes, overlaps))
    if found is None:
        return (tuple(nodes),)
    places = sorted(tuple(_places(clique)) for clique in found)
    return tuple(tuple(nodes[place] for place in each) for each in places if each)


def _neighbours(nodes: Sequence[_Node], overlaps: Callable[[_Node, _Node], bool]) -> list[int]:
    """Return for every node the set of nodes it overlaps with, as the bits of an integer."""
    neighbours = [0] * len(nodes)
    for i, one in enumerate(nodes):
        for j, other in enumerate(nodes[:i]):
            if overlaps(one, other) or overlaps(other, one):
                neighbours[i] |= 1 << j
                neighbours[j] |= 1 << i
    return neighbours


def _cliques(neighbours: list[int]) -> list[int] | None:
    """Return all maximal cliques as sets of bits, None if there are too many."""
    found: list[int] = []
    pending = [(0, (1 << len(neighbours)) - 1, 0)]  # chosen, may be added, was dealt with
    while pending:
        chosen, candidates, excluded = pending.pop()
        if not candidates | excluded:
            found.append(chosen)
            if len(found) > MOST_CLIQUES:
                return None
            continue
        pivot = _pivot(neighbours, candidates, excluded)
        for place in _places(candidates & ~neighbours[pivot]):
            near = neighbours[place]
            pending.append((chosen | 1 << place, candidates & near, excluded & near))
            candidates &= ~(1 << place)
            excluded |= 1 << place
    return found


def _pivot(neighbours: list[int], candidates: int, excluded: int) -> int:
    """Return the place whose neighbours leave the fewest candidates to try."""
    tried = _places(candidates | excluded)
    return max(tried, key=lambda place: (candidates & neighbours[place]).bit_count())


def _places(bits: int) -> list[int]:
    places = []
    while bits:
        lowest = bits & -bits
        places.append(lowest.bit_length() - 1)
        bits ^= lowest
    return places
