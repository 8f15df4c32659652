"""The benchmark of several processes runs and prints its table; no times are judged."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import processes


@pytest.mark.slow
def test_processes_prints_the_speed_of_each_count(
    run: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    table, result = run(processes.main, "--counts", "1", "2")
    assert result["speed"]["1"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert result["speed"]["2"]["median"] > 0
    assert "| 1 |" in table
    assert "| 2 |" in table
