"""`dpft tune` on the embedded task: one guarantee, and nothing that tells of the other trials."""

import dataclasses
import io
import json
import re
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dpft.accounting import Certificate, RepeatAndSelect, epsilon
from dpft.accounting.ledger import Budget, Ledger
from dpft.accounting.run_record import SelectionStatus
from dpft.recipes import cli, tuning
from dpft.recipes.config.composition import settings_from_yaml
from dpft.recipes.embedded import generate
from dpft.recipes.tasks import Row, Split
from dpft.recipes.tasks.embedded import Embedded
from dpft.rendering import rounded_up
from dpft.run_folder import RunFolder
from dpft.tuning import Scored

GRID = [
    "privacy.steps=2",
    "privacy.expected_batch_size=16",
    "optim.learning_rate=1e-3,5e-3",
    "privacy.clip_norm=0.5,1",
]
FILES = {
    "adapter",
    "certificate.json",
    "config.yaml",
    "environment.json",
    "metrics.json",
    "report.md",
}
LEDGER = {"dpft-ledger.sqlite", "dpft-ledger.sqlite-wal", "dpft-ledger.sqlite-shm"}
TRIALS = 3


class Spied(NamedTuple):
    folder: Path
    said: list[str]
    trials: list[tuple[float, float, float]]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Spied:
    """Tune with three trials, writing down what must stay secret."""
    found, said = Spied(tmp_path_factory.mktemp("tuned") / "chosen", [], []), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.folder.parent)
        patch.setattr(tuning, "_trial", spying(found.trials))
        patch.setattr("dpft.accounting.selection._truncated", lambda *_: TRIALS)
        patch.setattr(Embedded, "load", few)
        with redirect_stdout(said), redirect_stderr(said):
            assert cli.main(["tune", "--trials", "4", *GRID, "--out", "chosen"]) == 0
    found.said.append(said.getvalue())
    return found


def spying(trials: list[tuple[float, float, float]]) -> Any:
    """Return a trial that is written down and scores what nothing else in a run folder equals."""
    original = tuning._trial

    def trial(booking: Any, pair: Any) -> Scored[Any]:
        found = original(booking, pair)
        score = 0.61803 - (len(trials) - 1) ** 2 / 7  # the second one is the best
        settings = found.released.candidate.settings
        trials.append((score, settings.optim.learning_rate, settings.privacy.clip_norm))
        metrics = dataclasses.replace(found.released.metrics, values={"accuracy": score})
        return Scored(dataclasses.replace(found.released, metrics=metrics), score)

    return trial


def few(task: Embedded, split: Split) -> list[Row]:
    return [dict(record) for record in generate(split.value)][:300]


def test_the_best_trial_is_published_with_its_settings(tuned: Spied) -> None:
    assert len(tuned.trials) == TRIALS
    score, rate, clip_norm = max(tuned.trials)
    settings = settings_from_yaml((tuned.folder / "config.yaml").read_text())
    assert (settings.optim.learning_rate, settings.privacy.clip_norm) == (rate, clip_norm)
    assert metrics_of(tuned)["metrics"] == {"accuracy": score}


def test_nothing_is_left_but_the_chosen_run_and_the_ledger(tuned: Spied) -> None:
    assert {path.name for path in tuned.folder.iterdir()} == FILES
    assert {path.name for path in tuned.folder.parent.iterdir()} <= {"chosen", *LEDGER}


def test_neither_losers_nor_the_number_of_trials_nor_times_are_told(tuned: Spied) -> None:
    texts = [path for path in tuned.folder.rglob("*") if path.is_file()]
    written = "\n".join(path.read_bytes().decode("latin-1") for path in texts)
    for told in (written, tuned.said[0]):
        for score, *_ in sorted(tuned.trials)[:-1]:
            assert f"{score:.4f}" not in told
        assert not re.search(rf"\b{TRIALS} trials|trial {TRIALS}|trials.{{0,3}}{TRIALS}\b", told)
    assert f"{max(tuned.trials)[0]:.4f}" in tuned.said[0]  # the scan would find the others
    assert metrics_of(tuned)["examples_per_second"] is None


def test_every_artefact_tells_the_epsilon_of_the_whole_selection(tuned: Spied) -> None:
    certificate = certificate_of(tuned)
    (run,) = certificate.runs
    assert isinstance(run.mechanism, RepeatAndSelect)
    assert (run.mechanism.mean, run.selection) == (4.0, SelectionStatus.ACCOUNTED)
    assert not any("hyper-parameters" in sentence for sentence in run.excluded)
    spent = certificate.epsilon()
    assert (
        spent == epsilon(run.mechanism, run.delta, accountant="rdp") == metrics_of(tuned)["epsilon"]
    )
    assert 7.9 < spent <= 8.0
    report = (tuned.folder / "report.md").read_text()
    assert f"epsilon = {rounded_up(spent)} at delta = 1e-05" in report
    assert "the best of a secret number of trials (4 on average" in report
    assert "- Choosing hyper-parameters" not in report
    assert f"epsilon = {rounded_up(spent)}" in (tuned.folder / "adapter" / "README.md").read_text()
    assert tuned.said[0].count(f"epsilon {rounded_up(spent)} at delta 1e-05") == 2


def test_the_ledger_charges_the_selection_once(tuned: Spied) -> None:
    with Ledger.read(tuned.folder.parent / "dpft-ledger.sqlite") as ledger:
        charged = [use.mechanism for lease in ledger.state.leases.values() for use in lease.uses]
    assert charged == [certificate_of(tuned).runs[0].mechanism]
    report = (tuned.folder / "report.md").read_text(encoding="utf-8")
    assert "charged in no ledger" not in report
    assert "the run is charged in a ledger" in report


def test_the_chosen_run_is_like_any_other(tuned: Spied, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["certificate", "verify", str(tuned.folder)]) == 0
    assert "every claim holds" in capsys.readouterr().out
    assert RunFolder.open(tuned.folder).is_finished


def metrics_of(tuned: Spied) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((tuned.folder / "metrics.json").read_text())
    return metrics


def certificate_of(tuned: Spied) -> Certificate:
    return Certificate.from_json((tuned.folder / "certificate.json").read_text())


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, on few records, with a noise multiplier that is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Embedded, "load", few)
    return tmp_path


GIVEN = ["privacy.epsilon=null", "privacy.noise_multiplier=1", *GRID]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_selection_that_fails_leaves_its_charge_alone(
    error: type[BaseException],
    quick: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        sys.stdout.write("a trial")
        raise error

    monkeypatch.setattr(tuning, "_trial", fail)
    assert cli.main(["tune", *GIVEN, "--out", "chosen"]) in {1, 130}
    shown = capsys.readouterr()
    assert "stays charged as a whole" in shown.err
    assert "a trial" not in shown.out
    assert {path.name for path in quick.iterdir()} <= LEDGER
    assert epsilon_charged(quick) > 0


@pytest.mark.parametrize("apart", [True, False])
def test_a_private_score_is_part_of_the_certificate(
    apart: bool, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpft.accounting.selection._truncated", lambda *_: 1)
    rule = ["privacy.evaluation_split='year = 2020'"] if apart else []
    noisy = ["privacy.evaluation=noisy", "privacy.evaluation_epsilon=0.2", *rule]
    assert cli.main(["tune", *GIVEN, *noisy, "--out", "chosen"]) == 0
    certificate = Certificate.from_json((quick / "chosen" / "certificate.json").read_text())
    events = [run.mechanism for run in certificate.runs]
    assert all(isinstance(event, RepeatAndSelect) for event in events)
    bases = {event.base.kind for event in events if isinstance(event, RepeatAndSelect)}
    assert bases == ({"poisson_gaussian", "discrete_laplace"} if apart else {"composed"})
    assert {run.selection for run in certificate.runs} == {SelectionStatus.ACCOUNTED}
    costs = [epsilon(event, 1e-5, accountant="rdp") for event in events if event is not None]
    assert certificate.epsilon() == max(costs)
    with Ledger.read(quick / "dpft-ledger.sqlite") as ledger:
        leases = ledger.state.leases.values()
    charged = [use.mechanism for lease in leases for use in lease.uses]
    assert sorted(map(repr, charged)) == sorted(map(repr, events))


def test_no_trial_is_an_outcome_and_is_charged(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpft.accounting.selection._poisson", lambda *_: 0)
    assert cli.main(["tune", "--shape", "poisson", *GIVEN, "--out", "chosen"]) == 0
    assert "no model: no trial was drawn" in capsys.readouterr().out
    assert {path.name for path in quick.iterdir()} <= LEDGER
    assert epsilon_charged(quick) > 0


def test_a_selection_beyond_the_budget_is_refused_before_it_runs(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "_trial", None)  # nothing that could run
    with Ledger.open(quick / "dpft-ledger.sqlite") as ledger:
        ledger.set_budget("embedded", Budget(epsilon=0.5, delta=1e-5))
    assert cli.main(["tune", *GIVEN, "--out", "chosen"]) == 3
    assert "stays charged" not in capsys.readouterr().err
    assert not (quick / "chosen").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["privacy.epsilon=1,2"], "privacy.epsilon to have one value"),
        (["privacy.steps=2"], "at least one setting with several values"),
        ([*GRID, "--trials", "0.5"], "mean=0.5"),
        ([*GRID, "--shape", "fish"], "shape='fish'"),
        ([*GRID, "privacy.evaluation=none"], "evaluation=public or noisy"),
        ([*GRID, "privacy.accountant=pld"], "accountant=pld to be rdp"),
        ([*GRID, "privacy=not_private"], "mode=not_private to be private"),
        ([*GRID, "--epsilon", "-1"], "privacy.epsilon=-1"),
        ([*GRID, "--out", "."], "to be absent or empty"),
    ],
)
def test_what_cannot_be_accounted_is_refused_and_leaves_nothing(
    arguments: list[str], says: str, quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (quick / "thesis.tex").write_text("x")
    assert cli.main(["tune", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in quick.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_killed_selection_leaves_its_charge_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dpft", "tune", "--trials", "50", *GIVEN, "--out", "chosen"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "Nothing is shown until" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(20)  # in the middle of a trial, most likely
        process.kill()
        assert process.stdout.read() == ""
    assert {path.name for path in tmp_path.iterdir()} <= LEDGER
    assert epsilon_charged(tmp_path) > 0


def epsilon_charged(folder: Path) -> float:
    with Ledger.read(folder / "dpft-ledger.sqlite") as ledger:
        (lease,) = ledger.state.leases.values()
    ((mechanism,),) = [lease.charged("embedded", adaptive=True)]
    assert isinstance(mechanism, RepeatAndSelect)
    return epsilon(mechanism, 1e-5, accountant="rdp")
