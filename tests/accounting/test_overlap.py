"""The sets of runs that are paid for together are exactly the maximal cliques."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import overlap
from dpft.accounting.overlap import maximal_cliques

EDGES = st.integers(0, 7).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.sets(st.sampled_from([(i, j) for j in range(size) for i in range(j)]))
        if size > 1
        else st.just(set()),
    )
)


def brute_force(size: int, edges: set[tuple[int, int]]) -> set[frozenset[int]]:
    subsets = [
        frozenset(each)
        for count in range(1, size + 1)
        for each in itertools.combinations(range(size), count)
        if all(pair in edges for pair in itertools.combinations(each, 2))
    ]
    return {each for each in subsets if not any(each < other for other in subsets)}


@settings(max_examples=25, deadline=None)
@given(EDGES)
def test_cliques_are_those_of_a_search_over_all_subsets(
    graph: tuple[int, set[tuple[int, int]]],
) -> None:
    size, edges = graph
    found = maximal_cliques(range(size), lambda i, j: (i, j) in edges)  # one direction alone
    assert {frozenset(each) for each in found} == brute_force(size, edges)
    assert len(found) == len(set(found))


def test_no_nodes_have_no_cliques() -> None:
    assert maximal_cliques([], lambda *_: True) == ()


def test_equal_nodes_are_told_apart_by_their_place() -> None:
    assert maximal_cliques(["a", "a"], lambda *_: True) == (("a", "a"),)
    assert maximal_cliques(["a", "a"], lambda *_: False) == (("a",), ("a",))


def test_many_runs_that_all_overlap_are_one_set() -> None:
    nodes = tuple(range(1200))  # more than python recurses
    assert maximal_cliques(nodes, lambda *_: True) == (nodes,)


def test_too_many_cliques_are_paid_for_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = tuple(range(6))
    pairs = maximal_cliques(nodes, lambda i, j: i // 2 != j // 2)
    assert len(pairs) == 8
    monkeypatch.setattr(overlap, "MOST_CLIQUES", 8)
    assert maximal_cliques(nodes, lambda i, j: i // 2 != j // 2) == pairs
    monkeypatch.setattr(overlap, "MOST_CLIQUES", 7)
    assert maximal_cliques(nodes, lambda i, j: i // 2 != j // 2) == (nodes,)
