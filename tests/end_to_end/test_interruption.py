"""Runs that are killed and resumed, by the library and by the command line."""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import dpft
from dpft.accounting import Certificate, steps_of
from dpft.progress import Progress
from dpft.recipes import cli
from dpft.rendering import rounded_up

STEPS = 240
CHILD = """
import hashlib, os, sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import dpft
from dpft.private_step import StepSettings
from dpft.randomness import SecretRandomness
from dpft.sampling import PoissonSampler
from dpft.training import FitOptions

watched, out = map(Path, sys.argv[1:3])


def note(name, text):
    with open(watched / name, "a") as log:
        log.write(text + chr(10))
        log.flush()
        os.fsync(log.fileno())


def watched_key(self, original=SecretRandomness.__init__):
    original(self)
    note("keys", hashlib.sha256(self._key).hexdigest())


def watched_draw(self, step, original=PoissonSampler.draw):
    note("draws", str(step + 1))
    return original(self, step)


class Model(torch.nn.Linear):
    def save_pretrained(self, folder, safe_serialization):
        folder.mkdir()
        save_file(self.state_dict(), folder / "adapter_model.safetensors")


def row(index):
    ids = [1 + index % 5] * (1 + index % 3)
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2}


def loss(model, batch):
    total = (batch["input_ids"] * batch["attention_mask"]).sum(1, keepdim=True)
    return (model(total.float()).squeeze(1) - batch["labels"]).square()


SecretRandomness.__init__ = watched_key
PoissonSampler.draw = watched_draw
torch.manual_seed(0)
dpft.fit(
    Model(1, 1),
    [row(index) for index in range(60)],
    loss=loss,
    privacy=dpft.Privacy(
        noise_multiplier=2.0, delta=1e-3, expected_batch_size=6, steps=int(sys.argv[3])
    ),
    out=out,
    options=FitOptions(
        step=StepSettings(synthetic=[row(index) for index in range(3)]),
        resume=True,
        checkpoint_every=5,
    ),
)
"""
PRIVACY = dpft.Privacy(noise_multiplier=2.0, delta=1e-3, expected_batch_size=6, steps=STEPS)


class Killed:
    """A run whose process is killed again and again."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "run"
        self._watched = folder / "watched"
        self._watched.mkdir()
        (folder / "child.py").write_text(CHILD, encoding="utf-8")
        self._command = [sys.executable, folder / "child.py", self._watched, self.out, str(STEPS)]

    def start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            list(map(str, self._command)),
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def kill_somewhere(self, chance: random.Random) -> None:
        """Kill a process some steps after it started, at no particular place of a step."""
        before, further = len(self.draws()), chance.randint(1, 5)
        with self.start() as process:
            while len(self.draws()) < before + further:
                assert process.poll() is None, self._complaint(process)
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.04))
            process.kill()

    def kill_while_starting(self, chance: random.Random) -> None:
        with self.start() as process:
            time.sleep(chance.uniform(0, 4))
            process.kill()

    def finish(self) -> None:
        with self.start() as process:
            complaint = self._complaint(process)
        assert process.returncode == 0, complaint

    def draws(self) -> list[int]:
        return [int(line) for line in self._log("draws")]

    def keys(self) -> list[str]:
        return self._log("keys")

    def intended(self) -> int:
        lines = (self.out / "charges.jsonl").read_text().splitlines()
        return max((json.loads(line).get("intend", 0) for line in lines), default=0)

    def _log(self, name: str) -> list[str]:
        path = self._watched / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    @staticmethod
    def _complaint(process: "subprocess.Popen[bytes]") -> str:
        assert process.stderr is not None
        return process.stderr.read().decode()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_never_spends_more_than_planned(
    tmp_path: Path, kills: int
) -> None:
    run, chance = Killed(tmp_path), random.Random(kills)
    run.kill_while_starting(chance)
    for _ in range(kills):
        run.kill_somewhere(chance)
        draws = run.draws()
        assert run.intended() >= max(draws)  # every step sampled was charged
        assert len(set(draws)) == len(draws)  # and none was sampled twice
    run.finish()
    assert len(set(run.keys())) == len(run.keys()) >= kills + 1
    assert run.intended() == STEPS
    assert max(run.draws()) <= STEPS
    certificate = Certificate.from_json((run.out / "certificate.json").read_text())
    (record,) = certificate.runs
    assert record.private
    assert record.mechanism is not None
    assert steps_of(record.mechanism) == STEPS
    assert certificate.epsilon() <= PRIVACY.plan(60).epsilon()
    report = (run.out / "report.md").read_text(encoding="utf-8")
    assert rounded_up(certificate.epsilon()) in report
    starts, updates = table(report, "Starts of the process"), table(report, "Updates kept")
    assert starts >= kills + 1
    assert table(report, "Steps charged") == STEPS
    assert table(report, "Steps lost but charged") == STEPS - updates
    assert 0 < updates <= STEPS
    final = load_file(run.out / "adapter" / "adapter_model.safetensors")
    newest = load_file(run.out / "checkpoints" / f"step_{STEPS:06d}" / "weights.safetensors")
    assert all(torch.equal(final[name], newest[name]) for name in ("weight", "bias"))


def table(report: str, row: str) -> int:
    (line,) = [line for line in report.splitlines() if line.startswith(f"| {row} |")]
    return int(line.split("|")[2])


OVERRIDES = ["privacy.steps=8", "privacy.expected_batch_size=16", "run.checkpoint_every=2"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill `dpft train` in its fourth step or later; return the folder it was started in."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "dpft", "train", *OVERRIDES]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while not any('"intend": 4' in path.read_text() for path in folder.rglob("charges.jsonl")):
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.002)
        process.kill()
    return folder


@pytest.fixture
def stopped(killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the killed run; its parents are the working folder."""
    shutil.copytree(killed, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    beside = (tmp_path / "work" / "runs" / "embedded").iterdir()
    (run,) = (path for path in beside if path.is_dir())
    return run


def folders() -> set[Path]:
    return {path for path in Path.cwd().rglob("*") if path.is_dir()}


def test_an_interrupted_folder_says_what_it_is(stopped: Path) -> None:
    assert {path.name for path in stopped.iterdir()} <= {
        "charges.jsonl",
        "checkpoints",
        "config.yaml",
        "run.log",
    }
    assert "steps: 8" in (stopped / "config.yaml").read_text()


def test_resuming_completes_the_run_in_its_own_folder(stopped: Path) -> None:
    before, config = folders(), (stopped / "config.yaml").read_text()
    relative = stopped.relative_to(Path.cwd())
    assert cli.main(["train", *OVERRIDES, f"run.resume={relative}"]) == 0
    new = {path.relative_to(stopped).parts[0] for path in folders() - before}
    assert new == {"adapter", "checkpoints"}
    assert {path.name for path in stopped.iterdir()} == {
        "adapter",
        "certificate.json",
        "charges.jsonl",
        "checkpoints",
        "config.yaml",
        "environment.json",
        "metrics.json",
        "report.md",
        "run.log",
    }
    metrics = json.loads((stopped / "metrics.json").read_text())
    assert metrics["steps"] == 8
    report = (stopped / "report.md").read_text()
    assert table(report, "Updates kept") == metrics["updates"] <= 8
    assert table(report, "Starts of the process") == 2
    assert (stopped / "run.log").read_text().splitlines()[-1].startswith("step 8 of 8")
    assert (stopped / "config.yaml").read_text() == config
    assert "resume: null" in config
    certificate = Certificate.from_json((stopped / "certificate.json").read_text())
    assert certificate.epsilon() == metrics["epsilon"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("privacy.epsilon=7", "Expected privacy.epsilon=7.0 to be 8.0 as when the run started"),
        ("privacy.delta=1e-6", "Expected privacy.delta=1e-06"),
        ("task.dataset=other", "task.dataset"),
        ("architecture.dropout=0.1", "Expected architecture.dropout=0.1 to be 0.0"),
        ("run.seed=1", "Expected run.seed=1 to be 0"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_charged(
    stopped: Path, change: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, files = folders(), (stopped / "charges.jsonl").read_bytes()
    assert cli.main(["train", *OVERRIDES, change, f"run.resume={stopped}"]) == 2
    assert says in capsys.readouterr().err
    assert (folders(), (stopped / "charges.jsonl").read_bytes()) == (before, files)


def test_a_sweep_a_missing_folder_and_a_foreign_one_are_refused(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path.cwd() / "foreign").mkdir()
    (Path.cwd() / "foreign" / "thesis.tex").write_text("x")
    before = folders()
    for arguments, says in (
        (["-m", f"run.resume={stopped}"], "without a sweep"),
        (["run.resume=nowhere"], "There is no such folder"),
        (["run.resume=foreign"], "to be absent or empty"),
        (["hydra.mode=MULTIRUN", f"run.resume={stopped}"], "without a sweep"),
    ):
        assert cli.main(["train", *OVERRIDES, *arguments]) == 2
        assert says in capsys.readouterr().err
    assert folders() == before


def test_the_folder_given_before_may_stay_in_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's a run"
    quoted = str(folder).replace("'", r"\'")
    command = ["train", *OVERRIDES, "run.log_every=1", f"hydra.run.dir='{quoted}'"]
    with monkeypatch.context() as patch:
        patch.setattr("dpft.progress.EpsilonCourse.after", interrupt_at(3))
        assert cli.main(command) == 130
    said = capsys.readouterr().err
    assert "To continue it:" in said
    assert "To continue" not in (folder / "run.log").read_text()
    (line,) = [line for line in said.splitlines() if "run.resume" in line]
    program, *repeated = shlex.split(line)
    assert (program, repeated[: len(command)]) == ("dpft", command)
    assert cli.main(repeated) == 0
    assert table((folder / "report.md").read_text(), "Steps lost but charged") == 1
    assert cli.main(repeated) == 2
    assert "to be unfinished" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "dpft-ledger.sqlite"}


def interrupt_at(step: int) -> Any:
    def after(self: object, taken: int) -> Progress:
        if taken == step:
            raise KeyboardInterrupt
        return Progress(taken, 8, 1.0, 1.0)

    return after


@pytest.mark.slow
def test_what_a_killed_process_did_not_write_is_written_by_resuming(stopped: Path) -> None:
    command = ["train", *OVERRIDES, f"run.resume={stopped}"]
    assert cli.main(command) == 0
    written = [stopped / name for name in ("metrics.json", "report.md", "certificate.json")]
    for count in (1, 3):  # the last ones to be written
        for path in written[:count]:
            path.unlink()
        assert cli.main(command) == 0
        assert json.loads((stopped / "metrics.json").read_text())["steps"] == 8
        assert all(path.is_file() for path in [*written, stopped / "adapter" / "README.md"])


def test_a_failed_step_names_no_command_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[object]:
        raise MemoryError

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("dpft.sampling.LogicalBatch.physical_batches", fail)
        assert cli.main(["train", *OVERRIDES, f"hydra.run.dir={folder}"]) == 1
    said = capsys.readouterr().err
    assert "cannot be resumed" in said
    assert "run.resume" not in said
    assert cli.main(["train", *OVERRIDES, f"run.resume={folder}"]) == 4
    assert "new release" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_killed_before_its_first_step_starts_from_the_beginning(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stopped / "charges.jsonl").unlink()
    shutil.rmtree(stopped / "checkpoints")
    command = ["train", *OVERRIDES, f"run.resume={stopped}"]
    assert cli.main([*command, "privacy.epsilon=7"]) == 2
    assert "privacy.epsilon=7.0" in capsys.readouterr().err
    assert cli.main(command) == 0
    assert table((stopped / "report.md").read_text(), "Starts of the process") == 1
