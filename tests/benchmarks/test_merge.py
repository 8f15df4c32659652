"""The benchmark of merging measures what it says, here on a tiny model."""

import json
from pathlib import Path

import pytest

from benchmarks import merge
from dpft.taskvectors import TaskVector
from dpft.verification import verify

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
SMALL = ["--width", "32", "--inner", "48", "--rank", "4", "--rounds", "1", "--depths", "2"]


def test_adapters_of_the_benchmark_are_certified(tmp_path: Path) -> None:
    folder = merge.make_adapter(tmp_path / "a", merge.Shapes(32, 48, 4), layers=2, seed=1)
    assert all(finding.passed for finding in verify(folder))
    assert len(TaskVector.load(folder).delta.parts) == 14


def test_peaks_and_times_of_a_merge_are_printed_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert merge.main([*SMALL, "--measure", "--svd"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"ours, exact sum|2|bytes", "peft svd, one matrix of the layer|1|ms"} <= set(found)
    assert min(found.values()) >= 0
