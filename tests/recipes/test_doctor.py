from collections.abc import Iterator

import pytest

from dpft.errors import UnsupportedError
from dpft.recipes import cli
from dpft.recipes.cli import doctor


def test_a_sound_installation_exits_with_0(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "FAIL" not in shown
    assert "records equal a loop over single ones" in shown
    assert "DPFT_ASSETS" in shown


def test_an_engine_that_fails_its_checks_exits_with_4(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[object]:
        raise UnsupportedError("Expected gradients to be exact.")

    monkeypatch.setattr(doctor, "_preflight_checks", broken)
    assert cli.main(["doctor"]) == 4
    assert "Expected gradients to be exact." in capsys.readouterr().out


def test_a_missing_distribution_is_found() -> None:
    assert doctor._importable("no-such-distribution", "no_such_module").sound is False
