"""`dpft train` with a ledger: reserved before a model is loaded, charged, resumed, refused."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting.ledger import Budget, Head, Ledger, verify
from dpft.private_step import PrivateStep
from dpft.recipes import cli
from dpft.run_folder import RunFolder

OVERRIDES = ["privacy.steps=2", "privacy.expected_batch_size=16", "privacy.evaluation=none"]


def loaded(*_: Any) -> Any:
    raise AssertionError("a model was loaded")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "ledger.sqlite"


def command(folder: Path, path: Path, *more: str) -> list[str]:
    return ["train", *OVERRIDES, f"privacy.ledger={path}", f"hydra.run.dir={folder}", *more]


def test_a_run_over_budget_is_refused_before_a_model_is_loaded(
    tmp_path: Path,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = ["ledger", "budget", "embedded", "--epsilon", "0.5", "--delta", "1e-5"]
    assert cli.main([*budget, "--ledger", str(path)]) == 0
    monkeypatch.setattr("dpft.recipes.training.load_model", loaded)
    assert cli.main(command(tmp_path / "run", path)) == 3
    said = capsys.readouterr().err
    assert "left: 100 %" in said
    assert "What would fit: noise_multiplier=" in said
    assert "as of privacy.epsilon=0." in said
    assert not (tmp_path / "run").exists()
    unsafe = ["privacy=not_private", f"privacy.ledger={path}"]
    folder = tmp_path / "unsafe"
    arguments = ["train", "privacy.steps=2", *unsafe, f"hydra.run.dir={folder}"]
    assert cli.main(arguments) == 3
    assert "fits no budget" in capsys.readouterr().err
    with Ledger.read(path) as ledger:
        assert not ledger.state.leases


def test_a_run_is_charged_and_its_certificate_quotes_the_ledger(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(path) as ledger:
        ledger.set_budget("embedded", Budget(epsilon=50, delta=1e-5))
    folder = tmp_path / "run"
    assert cli.main(command(folder, path)) == 0
    said = capsys.readouterr().out
    assert f"ledger     {path}" in said
    assert "budget     embedded: epsilon 50 at delta 1e-05, adaptive plans" in said
    with Ledger.read(path) as ledger:
        (lease,) = ledger.state.leases.values()
        assert (lease.intended, lease.is_settled) == (2, True)
        text = RunFolder(folder).certificate.read_text(encoding="utf-8")
        (heads,) = [each for each in ledger.entries() if each.kind == "reserve"]
        assert heads.hash in text
        assert verify(ledger, Head(heads.hash, heads.seq)).quoted


def test_a_run_whose_model_cannot_be_loaded_gives_everything_back(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpft.recipes.training.load_model", loaded)
    assert cli.main(command(tmp_path / "run", path)) == 1
    said = capsys.readouterr().out
    assert "none is set for embedded: the run is charged, and never refused" in said
    with Ledger.read(path) as ledger:
        (lease,) = ledger.state.leases.values()
        assert (lease.intended, lease.is_settled) == (0, True)


def test_an_interrupted_run_says_how_to_settle_it_and_is_resumed_in_its_ledger(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dpft.progress.EpsilonCourse.after", interrupt)
        assert cli.main(command(folder, path)) == 130
    with Ledger.read(path) as ledger:
        (lease,) = ledger.state.leases.values()
    said = capsys.readouterr().err
    assert f"dpft ledger settle {lease.run_id} --ledger {path}" in said
    assert (lease.intended, lease.is_settled) == (1, False)
    moved = path.rename(tmp_path / "moved.sqlite")
    assert cli.main(command(folder, path, f"run.resume={folder}")) == 4
    assert "to be the one that run=" in capsys.readouterr().err
    assert cli.main(command(folder, moved, f"run.resume={folder}")) == 0
    with Ledger.read(moved) as ledger:
        (lease,) = ledger.state.leases.values()
        assert (lease.token, lease.intended, lease.is_settled) == (2, 2, True)


def test_a_sweep_is_charged_where_other_runs_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger.open(tmp_path / "dpft-ledger.sqlite") as ledger:
        ledger.set_budget("embedded", Budget(epsilon=0.5, delta=1e-5))
    monkeypatch.setattr("dpft.recipes.training.load_model", loaded)
    sweep = ["train", "-m", "privacy.epsilon=1,2", "hydra.sweep.dir=sweep", *OVERRIDES]
    assert cli.main(sweep) == 3
    assert "left: 100 %" in capsys.readouterr().err
    assert not list(tmp_path.glob("sweep/**/*.sqlite"))


def test_an_interrupted_sweep_names_a_command_that_continues_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    sweep = ["train", "-m", "privacy.noise_multiplier=20,30", "privacy.epsilon=null"]
    with monkeypatch.context() as patch:
        patch.setattr("dpft.progress.EpsilonCourse.after", interrupt)
        assert cli.main([*sweep, "hydra.sweep.dir=sweep", *OVERRIDES]) == 130
    said = capsys.readouterr().err.splitlines()
    (command,) = [shlex.split(line) for line in said if "run.resume" in line]
    assert cli.main(command[1:]) == 0
    with Ledger.read(tmp_path / "dpft-ledger.sqlite") as ledger:
        (lease,) = ledger.state.leases.values()
    assert (lease.token, lease.intended, lease.is_settled) == (2, 2, True)


@pytest.mark.parametrize("end", ["settled", "put back", "failed"])
def test_a_run_that_ended_is_refused_before_a_model_is_loaded_and_charges_nothing(
    end: str,
    tmp_path: Path,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise ValueError if end == "failed" else KeyboardInterrupt

    noisy = ["privacy.evaluation=noisy", "privacy.evaluation_epsilon=0.5"]
    arguments = [*command(tmp_path / "run", path, *noisy), "privacy.accountant=rdp"]
    with monkeypatch.context() as patch:
        patch.setattr(PrivateStep, "_release", interrupt)
        assert cli.main(arguments) != 0
    with Ledger.open(path) as ledger:
        (run,) = [name for name, lease in ledger.state.leases.items() if lease.steps == 2]
        if end == "settled":
            ledger.settle(run)
        if end == "put back":
            ledger.intend(run, ledger.state.lease(run).token, 2)
        before = ledger.head
    monkeypatch.setattr("dpft.recipes.training.load_model", loaded)
    capsys.readouterr()
    assert cli.main([*arguments, f"run.resume={tmp_path / 'run'}"]) == 4
    says = {"settled": "it is settled", "put back": "put back from", "failed": "a failed step"}
    assert says[end] in capsys.readouterr().err
    with Ledger.read(path) as ledger:
        assert ledger.head == before
