"""The benchmarks run and print their tables; no times are judged."""

import json
import platform
import sys
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import forms, step
from benchmarks.memory import in_own_process

_Run = Callable[..., tuple[str, dict[str, Any]]]


def test_step_prints_ratios_to_the_plain_step(run: _Run) -> None:
    table, result = run(step.main, "--only", "MiniLM LoRA B=32 T=64", "--no-memory")
    rows = {row["engine"]: row for row in result["rows"]}
    assert set(rows) == {"plain", "dpft", "opacus hooks", "opacus ghost", "opacus functorch"}
    assert rows["plain"]["cpu"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert all(row["failure"] is None and row["cpu"]["median"] > 0 for row in rows.values())
    assert "| plain | 1 [1, 1] | 1 [1, 1] |" in table


def test_step_says_why_a_peer_has_no_number(run: _Run) -> None:
    table, result = run(step.main, "--only", "GPT-2 IA3", "--no-memory")
    rows = {row["engine"]: row for row in result["rows"]}
    assert rows["dpft"]["failure"] is None
    assert "Per sample gradient is not initialized" in rows["opacus hooks"]["failure"]
    assert rows["opacus hooks"]["cpu"] is None
    assert "| opacus hooks | ValueError: Per sample gradient" in table


def test_step_gives_no_number_to_a_wrong_step(run: _Run) -> None:
    _, result = run(step.main, "--only", "GPT-2 prompt", "--no-memory")
    ghost = next(row for row in result["rows"] if row["engine"] == "opacus ghost")
    assert ghost["failure"].startswith("RuntimeError: wrong: not the sum of clipped gradients")


def test_memory_is_put_in_ratio_to_the_plain_step(
    run: _Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(module: str, arguments: list[str]) -> dict[str, int]:
        assert module == "benchmarks.step"
        return {"peak": len(arguments[arguments.index("--peak-of") + 1])}

    monkeypatch.setattr(step, "in_own_process", peak)
    _, result = run(step.main, "--only", "MiniLM IA3")
    found = {row["engine"]: row["memory"] for row in result["rows"]}
    assert found.pop("plain") == 1.0
    assert found.pop("dpft") == 0.8
    assert set(found.values()) == {None}  # Opacus cannot do the case


def test_results_name_versions_and_no_host(run: _Run) -> None:
    table, result = run(step.main, "--only", "MiniLM prompt", "--no-memory")
    assert set(result["versions"]) == {"torch", "opacus", "peft", "transformers"}
    assert platform.node() not in table + json.dumps(result)


@pytest.mark.slow
def test_forms_prints_thresholds(run: _Run) -> None:
    table, result = run(forms.main)
    assert len(result["thresholds"]) == 3
    assert "Thin (P D <= 16384) sites: ghost where" in table


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_engine_is_measured_in_a_process_of_its_own() -> None:
    arguments = ["--quick", "--only", "MiniLM LoRA B=32 T=64", "--peak-of", "dpft"]
    assert in_own_process("benchmarks.step", arguments)["peak"] >= 0
