import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError, BudgetError, ConfigurationError, UnsupportedError
from dpft.recipes import cli

LIGHT = """
import sys
from dpft.recipes.cli import main
code = main(sys.argv[1:])
heavy = sorted({"torch", "transformers", "peft", "datasets", "opacus"} & set(sys.modules))
sys.exit(f"imported {heavy}" if heavy else code)
"""
ACCOUNT = "account --records 67349 --batch-size 1024 --epochs 1 --noise-multiplier 1 --delta 1e-5"


@pytest.fixture(scope="module")
def run(beside_hydra: Callable[..., Any]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command line in a folder: (folder, words)."""
    return lambda folder, *argv: beside_hydra(LIGHT, *argv, cwd=folder)


@pytest.mark.parametrize(
    "line", ["--help", "", "train --help", "train --cfg job", "train --cfg job task=sst2", ACCOUNT]
)
def test_light_commands_import_no_torch_and_write_nothing(
    tmp_path: Path, run: Callable[..., Any], line: str
) -> None:
    done = run(tmp_path, *line.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not any(tmp_path.iterdir())


def test_importing_the_library_imports_no_torch() -> None:
    code = "import sys, dpft, dpft.privacy, dpft.accounting; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("trian", "Did you mean dpft train?"),
        ("train privacy.epsilonn=3", "Did you mean privacy.epsilon?"),
        ("train task=sst3", "Did you mean task=sst2?"),
        ("train privacy.epsilon=-3", "Expected privacy.epsilon=-3.0 to be valid"),
        ("train privacy.delta=0.5", "Expected delta=0.5 < 1/num_records"),
        ("train privacy.steps=null", "Expected exactly one of epochs=None and steps=None"),
        ("train privacy.epsilon=null", "Expected exactly one of epsilon=None"),
        ("train task=text_classification", "Expected task.train to be given"),
        ("train model=./nowhere", "Expected model=./nowhere to be a folder"),
        ("train adapter.r=0 optim.learning_rate=0", "Expected adapter.r=0 to be valid"),
        ("train adapter.r=0 optim.learning_rate=0", "Expected optim.learning_rate=0.0 to be valid"),
        ("train =", "Expected the configuration to compose"),
    ],
)
def test_bad_settings_exit_with_2_say_why_and_leave_no_file(
    tmp_path: Path, run: Callable[..., Any], line: str, says: str
) -> None:
    done = run(tmp_path, *line.split())
    assert says in done.stderr
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_sweep_over_an_unknown_key_suggests_the_nearest(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    done = run(tmp_path, "train", "-m", "privacy.epsilonn=3,4")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("Did you mean privacy.epsilon?")


def test_a_refused_setting_does_not_even_leave_a_folder(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    assert run(tmp_path, "train", "privacy.epsilon=-3").returncode == 2
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("setting"), 2),
        (BudgetError("budget"), 3),
        (BrokenGuaranteeError("guarantee"), 4),
        (UnsupportedError("model"), 4),
    ],
)
def test_each_refusal_has_its_exit_code_and_no_traceback(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "import_module", lambda _: SimpleNamespace(main=raising(error)))
    assert cli.main(["doctor"]) == code
    assert capsys.readouterr().err == f"{error}\n"


@pytest.mark.parametrize("verb", ["audit", "demo", "evaluate", "train", "tune"])
def test_no_verb_trains_in_several_processes(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(cli, "import_module", lambda _: SimpleNamespace(main=lambda _: 0))
    assert cli.main([verb]) == 2
    assert "Start it without a launcher" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert cli.main([verb]) == 0


def test_the_unexpected_shows_its_traceback_on_the_console(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bug = ZeroDivisionError("a bug")
    monkeypatch.setattr(cli, "import_module", lambda _: SimpleNamespace(main=raising(bug)))
    assert cli.main(["doctor"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_helps(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert verb in capsys.readouterr().out


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["help"])
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in cli.VERBS)


def test_hydra_leaves_the_process_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    cli.main(["train", "--cfg", "job"])
    assert (list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")) == before


def raising(error: Exception) -> object:
    def main(argv: list[str]) -> int:
        raise error

    return main
