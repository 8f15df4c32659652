"""The benchmark of kept states runs and prints its table; no times are judged."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import frozen_prefix


def test_it_prints_ratios_to_the_plain_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads, out = torch.get_num_threads(), tmp_path / "result.json"
    try:
        frozen_prefix.main(["--quick", "--rounds", "2", "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    rows = {row["loop"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert list(rows)[:3] == ["dpft, kept", "dpft, first epoch", "dpft, no cache"]
    assert rows["plain"]["cpu"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert all(row["per_cpu_second"] > 0 for row in rows.values())
    assert "| plain | " in capsys.readouterr().out
