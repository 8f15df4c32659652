"""`dpft demo`, with fewer steps than a user sees."""

import json
from pathlib import Path

import pytest

from dpft.recipes import cli
from dpft.recipes.cli.demo import RUNS


def test_the_demo_compares_three_runs_and_says_where_the_adapter_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["privacy.steps=2", "privacy.expected_batch_size=32"]
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), *overrides]) == 0
    shown = capsys.readouterr().out
    for title, name, _ in RUNS:
        assert title in shown
        metrics = json.loads((tmp_path / "demo" / name / "metrics.json").read_text())
        assert f"{metrics['metrics']['accuracy']:.3f}" in shown
        assert metrics["private"] is (name != "not_private")
    assert str(tmp_path / "demo" / "private" / "adapter") in shown
    assert str(tmp_path / "demo" / "private" / "report.md") in shown
