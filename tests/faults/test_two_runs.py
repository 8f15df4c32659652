"""Two processes and one run folder: one of them works, the other is told so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dpft
from dpft.continuity import Continuity
from dpft.errors import ConfigurationError
from dpft.loop import Standing
from dpft.progress import Progress

Fit = Callable[..., dpft.FitResult]


def test_a_second_run_in_the_folder_is_refused_and_disturbs_nothing(
    tmp_path: Path, fit: Fit, charged: Callable[[Path], tuple[int, int]]
) -> None:
    out = tmp_path / "run"
    refused: list[str] = []

    def start_another(progress: Progress) -> None:
        if progress.step == 3:
            before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
            for resume in (True, False):
                with pytest.raises(ConfigurationError) as caught:
                    fit(out, resume=resume, config_yaml="of: another\n")
                refused.append(str(caught.value))
            assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    result = fit(out, on_step=start_another, config_yaml="of: the first\n")
    assert "to be free" in refused[0]
    assert "to be absent or empty" in refused[1]
    assert result.history.starts == 1
    assert charged(out) == (6, 6)
    assert (out / "config.yaml").read_text() == "of: the first\n"


def test_of_two_that_begin_at_once_the_folder_says_what_the_one_is_that_goes_on(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain = tmp_path / "run", Continuity.begin

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    def begin(continuity: Continuity) -> None:
        monkeypatch.undo()
        with pytest.raises(KeyboardInterrupt):  # the other is quicker
            fit(out, on_step=stop, config_yaml="of: the quicker one\n")
        plain(continuity)

    monkeypatch.setattr(Continuity, "begin", begin)
    with pytest.raises(ConfigurationError, match="to be free"):
        fit(out, config_yaml="of: the slower one\n")
    assert (out / "config.yaml").read_text() == "of: the quicker one\n"
    assert fit(out).history.starts == 2


class Asking:
    """An observer that asks for a checkpoint where there is one."""

    def begin(self, standing: Standing) -> None:
        standing.save()

    def before_step(self) -> None:
        """Do nothing."""

    def after_step(self, progress: Progress) -> bool:  # noqa: ARG002 - asked for by the protocol
        return True


def test_a_checkpoint_that_is_there_is_never_taken_away_to_be_written_again(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", on_step=stop)
    saved: list[Any] = []
    monkeypatch.setattr("dpft.checkpoint.Checkpoints.save", lambda _, made, __: saved.append(made))
    assert fit(tmp_path / "run", observer=Asking()).history.lost == 0
    assert [each.intended for each in saved] == [6]
