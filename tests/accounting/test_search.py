"""The search finds the outermost integer, whatever the cost looks like."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpft.accounting.search import Found, Range, Search

COSTS: dict[str, Callable[[int], float]] = {
    "root": lambda point: point**0.5,
    "power": lambda point: point**2.5 / 1e6,
    "logarithm": math.log1p,
    "steps": lambda point: float(point // 10),
    "zero at first": lambda point: max(0.0, point - 500.0),
}


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS.keys())
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_last_point_that_meets_a_growing_cost_is_found(
    cost: Callable[[int], float], border: int, start: int
) -> None:
    target = max(cost(border), 1e-6)
    found = Search(target, Range(1, start, 10_000), safer=-1).outermost(cost)
    expected = max((point for point in range(1, 10_001) if cost(point) <= target), default=None)
    assert (found and found.point) == expected


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_first_point_that_meets_a_falling_cost_is_found(border: int, start: int) -> None:
    target = border**-1.7
    found = Search(target, Range(1, start, 10_000), safer=1).outermost(lambda point: point**-1.7)
    assert found is not None
    assert found.point == border


def test_nothing_is_found_where_no_point_meets_the_target() -> None:
    assert Search(1.0, Range(1, 50, 100), safer=-1).outermost(lambda _: 2.0) is None


def test_few_points_are_measured() -> None:
    probes = []

    def cost(point: int) -> float:
        probes.append(point)
        return float((point / 10_000) ** -1.6)

    assert Search(3.0, Range(100, 10_000, 10**9), safer=1).outermost(cost) is not None
    assert len(probes) <= 10


def test_a_finer_measure_gives_back_what_the_coarse_one_overstated() -> None:
    search = Search(8.0, Range(1, 50, 1000), safer=-1)
    found = search.outermost(lambda point: point / 8 + 0.5)
    assert found == Found(60, 0.125)
    assert search.confirmed(found, lambda point: point / 8) == 64


def test_a_finer_measure_that_costs_more_moves_to_the_safe_side() -> None:
    search = Search(10.0, Range(1, 50, 1000), safer=-1)
    assert search.confirmed(Found(100, 0.1), lambda point: point / 10 + 0.45) == 95


def test_a_finer_measure_that_nothing_meets_is_reported() -> None:
    assert Search(10.0, Range(1, 2, 9), safer=-1).confirmed(Found(2, 1.0), lambda _: 11.0) is None
