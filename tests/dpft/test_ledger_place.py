"""Where the ledger of a run lies."""

from pathlib import Path

import pytest

import dpft
from dpft.errors import ConfigurationError
from dpft.ledger_place import ledger_place

PRIVACY = {"noise_multiplier": 1.0, "delta": 1e-3, "steps": 1}


def test_the_setting_comes_first_then_the_variable_then_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dpft.Privacy(**PRIVACY)
    named = dpft.Privacy(**PRIVACY, ledger="mine.sqlite")
    assert ledger_place(plain, tmp_path / "runs" / "one") == tmp_path / "dpft-ledger.sqlite"
    assert ledger_place(plain, None) is None
    monkeypatch.setenv("DPFT_LEDGER", "theirs.sqlite")
    assert ledger_place(plain, tmp_path) == ledger_place(plain, None) == Path("theirs.sqlite")
    assert ledger_place(named, tmp_path) == Path("mine.sqlite")


def test_a_relative_run_folder_has_a_place_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = dpft.Privacy(**PRIVACY)
    assert ledger_place(plain, Path("run")) == tmp_path / "dpft-ledger.sqlite"


def test_the_home_is_named_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    named = dpft.Privacy(**PRIVACY, ledger="~/mine.sqlite")
    assert ledger_place(named, None) == tmp_path / "mine.sqlite"


def test_runs_of_all_tasks_and_sweeps_under_one_folder_share_a_ledger(tmp_path: Path) -> None:
    plain = dpft.Privacy(**PRIVACY)
    folders = [tmp_path / "runs" / task / "one" for task in ("sst2", "mnli")]
    places = {ledger_place(plain, folder) for folder in folders}
    assert places == {tmp_path / "runs" / "dpft-ledger.sqlite"}


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_ledger_that_is_there_is_used(tmp_path: Path) -> None:
    plain = dpft.Privacy(**PRIVACY)
    out = tmp_path / "runs" / "one"
    former = made(tmp_path / "runs" / "dpft-ledger.sqlite")
    assert ledger_place(plain, out) == former
    made(tmp_path / "dpft-ledger.sqlite")
    with pytest.raises(ConfigurationError, match="Expected one ledger"):
        ledger_place(plain, out)
    former.unlink()
    assert ledger_place(plain, out) == tmp_path / "dpft-ledger.sqlite"


def test_a_ledger_stays_in_use_when_its_folder_changes(tmp_path: Path) -> None:
    """A new one beside it would know nothing of its budgets."""
    plain = dpft.Privacy(**PRIVACY)
    place = made(tmp_path / "own" / "dpft-ledger.sqlite")
    place.parent.chmod(0o777)
    assert ledger_place(plain, place.parent / "runs" / "one") == place


def test_runs_of_tasks_are_charged_where_a_run_beside_them_was(tmp_path: Path) -> None:
    plain = dpft.Privacy(**PRIVACY)
    first = ledger_place(plain, tmp_path / "runs" / "first")
    assert first == made(tmp_path / "dpft-ledger.sqlite")
    assert ledger_place(plain, tmp_path / "runs" / "sst2" / "one") == first
    nearer = made(tmp_path / "runs" / "dpft-ledger.sqlite")
    assert ledger_place(plain, tmp_path / "runs" / "sst2" / "one") == nearer


def test_a_ledger_lies_in_no_folder_of_others_and_beside_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dpft.Privacy(**PRIVACY)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    own = shared / "runs" / "dpft-ledger.sqlite"
    assert ledger_place(plain, shared / "runs" / "one") == own
    assert ledger_place(plain, Path("/runs/one")) == Path("/runs/dpft-ledger.sqlite")
    monkeypatch.setenv("DPFT_PRIVATE", str(tmp_path / "home" / "key"))
    beside_key = tmp_path / "home" / "runs" / "one"
    assert ledger_place(plain, beside_key) == tmp_path / "home" / "runs" / "dpft-ledger.sqlite"
    made(shared / "dpft-ledger.sqlite")
    made(tmp_path / "dpft-ledger.sqlite")
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)  # somebody else made them
    assert ledger_place(plain, shared / "runs" / "one") == own
