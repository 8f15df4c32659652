"""Ratios of paired rounds."""

import pytest

from benchmarks.measuring import Clock, Plan, Sample, interleaved, median_ratio


def _samples(*seconds: float, units: int = 1) -> list[Sample]:
    return [Sample(wall=one, cpu=2 * one, units=units) for one in seconds]


def test_ratio_is_formed_within_each_round_and_for_one_unit() -> None:
    above = _samples(2.0, 20.0, 200.0, units=2)
    below = _samples(1.0, 10.0, 50.0)
    found = median_ratio(above, below, Clock.WALL)
    assert (found.median, found.low, found.high) == (1.0, 1.0, 2.0)


def test_each_clock_has_its_own_ratio() -> None:
    above, below = [Sample(3.0, 1.0, 1)], [Sample(1.0, 2.0, 1)]
    assert median_ratio(above, below, Clock.WALL).median == 3.0
    assert median_ratio(above, below, Clock.CPU).median == 0.5


def test_rounds_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        median_ratio(_samples(1.0), _samples(1.0, 2.0), Clock.CPU)


def test_every_contender_runs_once_a_round_in_changing_order() -> None:
    runs: list[str] = []

    def action(name: str) -> int:
        runs.append(name)
        return len(name)

    actions = {name: (lambda name=name: action(name)) for name in ("a", "bb", "ccc")}
    samples = interleaved(actions, Plan(rounds=6, warm_up=2))
    rounds = [tuple(runs[start : start + 3]) for start in range(0, 24, 3)]
    assert all(sorted(one) == ["a", "bb", "ccc"] for one in rounds)
    assert len(set(rounds)) > 1
    assert {name: [s.units for s in found] for name, found in samples.items()} == {
        "a": [1] * 6,
        "bb": [2] * 6,
        "ccc": [3] * 6,
    }
