"""Where the ledger of a run lies."""

from pathlib import Path

import pytest

import dpft
from dpft.ledger_place import ledger_place

PRIVACY = {"noise_multiplier": 1.0, "delta": 1e-3, "steps": 1}


def test_the_setting_comes_first_then_the_variable_then_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dpft.Privacy(**PRIVACY)
    named = dpft.Privacy(**PRIVACY, ledger="mine.sqlite")
    assert (
        ledger_place(plain, tmp_path / "runs" / "one") == tmp_path / "runs" / "dpft-ledger.sqlite"
    )
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
