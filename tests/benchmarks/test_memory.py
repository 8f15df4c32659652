"""Peaks of memory."""

import sys

import pytest
import torch

from benchmarks.memory import in_own_process, peak_over_rest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
_MIB = 2**20


def test_peak_is_what_an_action_holds_at_once() -> None:
    def action() -> int:
        for _ in range(3):
            torch.ones(16 * _MIB)  # 64 MiB each, freed at once
        return 1

    assert peak_over_rest(action, "cpu") == pytest.approx(64 * _MIB, rel=0.1)


def test_failure_in_the_other_process_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"No module named benchmarks\.nothing"):
        in_own_process("benchmarks.nothing", [])
