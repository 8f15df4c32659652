"""Loops from end to end at tiny sizes; no times are judged."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import epoch
from benchmarks.corpora import Corpus, material
from benchmarks.loops import Run
from benchmarks.trainers import TRAINERS
from dpft.recipes.models import quiet_peft

_Run = Callable[..., tuple[str, dict[str, Any]]]
_BLIND = """
class PrivacyEngine:
    def __init__(self, model, **options):
        pass

    def attach(self, optimizer):
        pass
"""


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one peer that clips nothing, and none of the other."""
    package = tmp_path / "peers" / "fastDP"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_BLIND, encoding="utf-8")
    (package / "transformers_support.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("fastDP", "fastDP.transformers_support"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return package.parent


def test_every_loop_gets_records_per_second(run: _Run) -> None:
    table, result = run(epoch.main)
    assert [row["loop"] for row in result["rows"]] == [
        "dpft",
        "opacus",
        "plain",
        "plain, sorted by length",
        "Trainer",
        "Trainer, group_by_length",
    ]
    assert result["rows"][0]["cpu"]["median"] == 1.0
    assert all(row["per_second"] > 0 for row in result["rows"])
    assert "lengths drawn from a log-normal distribution" in table


def test_peers_that_are_wrong_or_missing_get_a_reason_and_no_number(run: _Run, peers: Path) -> None:
    _, result = run(epoch.main, "--data", "e2e", "--peers", str(peers), "--loops", "f")
    rows = {row["loop"]: row for row in result["rows"]}
    assert rows["dpft"]["per_second"] > 0
    assert "wrong: not the sum of clipped gradients" in rows["fastDP"]["failure"]
    assert "No module named 'private_transformers'" in rows["private-transformers"]["failure"]
    assert rows["fastDP"]["cpu"] is None


def test_memory_of_each_loop_is_that_of_its_own_process(
    run: _Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(module: str, arguments: list[str]) -> dict[str, int]:
        assert module == "benchmarks.epoch"
        return {"peak": 2**20 * len(arguments[arguments.index("--peak-of") + 1])}

    monkeypatch.setattr(epoch, "in_own_process", peak)
    table, _ = run(epoch.main, "--loops", "opacus", "--memory")
    peaks = [line.split("|")[-2].strip() for line in table.splitlines()[2:4]]
    assert peaks == ["4", "6"]


def test_what_a_trainer_raises_is_told_to_the_block() -> None:
    with quiet_peft():
        found = material(Corpus.SST2, quick=True)
    unlabelled = [{"input_ids": [1, 2], "attention_mask": [1, 1]}] * 64
    run = Run(found.model, unlabelled, found.loss, found.tokenizer, physical=16, trainer_steps=4)
    block = TRAINERS["Trainer"](run)
    with pytest.raises(ValueError, match="did not return a loss"):
        block()
