"""The table of accuracies: which cells it has, and what it says of those that are done."""

from typing import Any

import pytest

from benchmarks.utility import Cell, cells, table


def test_every_cell_is_run_once_and_every_epsilon_before_a_second_seed() -> None:
    every = list(cells())
    assert len(set(every)) == len(every)
    first = [cell.epsilon for cell in every if cell.seed == 0]
    assert every[: len(first)] == [Cell(epsilon, 0) for epsilon in first]
    assert set(first) == {None, 8.0, 3.0, 1.0}


def test_a_cell_says_what_the_command_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPFT_ASSETS", "assets")
    assert "privacy.epsilon=3.0" in Cell(3.0, 1).overrides()
    assert "run.seed=1" in Cell(3.0, 1).overrides()
    assert "privacy=not_private" in Cell(None, 0).overrides()


def test_the_table_averages_seeds_and_says_how_many_there_were() -> None:
    found: list[dict[str, Any]] = [
        {"target_epsilon": 8.0, "seed": 0, "accuracy": 0.85},
        {"target_epsilon": 8.0, "seed": 1, "accuracy": 0.87},
        {"target_epsilon": None, "seed": 0, "accuracy": 0.9},
    ]
    assert table(found).splitlines()[2:] == [
        "| infinite | 0.9000 | one seed | 1 |",
        "| 8 | 0.8600 | 0.8500 to 0.8700 | 2 |",
    ]
