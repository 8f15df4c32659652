"""Parts of a run: times within one another, and functions left as they were."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import overhead
from benchmarks.overhead import Part, Parts
from dpft import preflight, private_step

_SPENT = 0.05


def _work() -> None:
    end = time.process_time() + _SPENT
    while time.process_time() < end:
        pass


def _work_and_fail() -> None:
    _work()
    raise ZeroDivisionError


def test_time_within_another_part_counts_for_the_inner_one_alone() -> None:
    parts = Parts()
    with parts.within(Part.STEPS):
        _work()
        with parts.within(Part.LEDGER):
            _work()
            _work()
    spent = {part: cpu for part, (cpu, _) in parts.spent().items()}
    assert _SPENT <= spent[Part.STEPS] < 2 * _SPENT <= spent[Part.LEDGER]
    assert spent[Part.ACCOUNTING] == 0


def test_time_of_a_part_that_fails_counts() -> None:
    parts = Parts()
    with pytest.raises(ZeroDivisionError), parts.within(Part.PREFLIGHT):
        _work_and_fail()
    assert parts.spent()[Part.PREFLIGHT][0] >= _SPENT


def test_a_function_is_wrapped_where_it_was_imported_to_and_restored() -> None:
    before, holders = preflight.run_preflight, (vars(preflight), vars(private_step))
    with Parts().watching({Part.PREFLIGHT: ["dpft.preflight:run_preflight"]}):
        assert all(holder["run_preflight"].__wrapped__ is before for holder in holders)
    assert all(holder["run_preflight"] is before for holder in holders)


def test_every_named_function_is_found() -> None:
    for places in overhead._WRAPPED.values():
        for place in places:
            assert list(overhead._found(place)), place


def test_shares_add_up_and_the_aimed_parts_are_summed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def one(*_: Any, **__: Any) -> dict[str, Any]:
        spent = {part.value: (1.0, 2.0) for part in Part}
        return {**spent, "imports, beside the run": (9.0, 0.0)}

    monkeypatch.setattr(overhead, "in_own_process", one)
    overhead.main(["--rounds", "2", "--out", str(tmp_path / "result.json")])
    table = capsys.readouterr().out
    assert "| steps | 9.09% | 9.09% | 1.00 |" in table
    assert "| accounting + ledger and charges + preflight | 27.27% | 27.27% | 3.00 |" in table
    assert "| imports, beside the run |  |  | 9.00 |" in table
    saved = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert saved["seconds"]["steps"] == [1.0, 2.0]


@pytest.mark.slow
def test_a_short_run_spends_time_in_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    overhead.main(["--quick", "--rounds", "1"])
    table = capsys.readouterr().out
    for part in Part:
        line = next(line for line in table.splitlines() if line.startswith(f"| {part.value} |"))
        assert float(line.split("|")[2].strip().rstrip("%")) > 0, part
