"""`dpft train run.trackers=[...]`: what a user sees, and that it is the same everywhere."""

import importlib
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import Certificate
from dpft.accounting.ledger import Ledger, summarise
from dpft.errors import ConfigurationError
from dpft.ledger_place import FILE_NAME
from dpft.recipes import cli
from dpft.recipes.candidates import candidates_of
from dpft.recipes.config.composition import compose_settings, settings_from_yaml
from dpft.rendering import rounded_up
from dpft.tracking import TrackerName
from dpft.tracking.backends import BACKENDS

STEPS, DELTA = 2, 1e-5
OVERRIDES = [
    f"privacy.steps={STEPS}",
    "privacy.expected_batch_size=32",
    "run.log_every=1",
    "run.trackers=[tensorboard]",
]
TOLD = {
    "accuracy",
    "delta",
    "epsilon",
    "expected_batch_size",
    "learning_rate",
    "noise_multiplier",
    "spent_epsilon",
    "target_epsilon",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "embedded" / "run"
    assert cli.main(["train", *OVERRIDES, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def events(run: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of everything that the tracker was told."""
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(run / "trackers" / "tensorboard"))
    found.Reload()
    assert not found.Tags()["scalars"]
    return {
        tag: [(event.step, event.tensor_proto.double_val[0]) for event in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }


def test_the_same_epsilon_is_in_tracker_log_metrics_certificate_report_card_and_ledger(
    run: Path, events: dict[str, list[tuple[int, float]]]
) -> None:
    epsilon = Certificate.from_json((run / "certificate.json").read_text()).epsilon(DELTA)
    assert events["epsilon"] == [(STEPS, epsilon)]
    assert events["spent_epsilon"][-1] == events["target_epsilon"][-1] == (STEPS, epsilon)
    assert json.loads((run / "metrics.json").read_text())["epsilon"] == epsilon
    said = rounded_up(epsilon)
    assert f"step 2 of 2, epsilon {said} of {said}" in (run / "run.log").read_text()
    for page in ("report.md", "adapter/README.md"):
        assert f"epsilon = {said} at delta = 1e-05" in (run / page).read_text()
    with Ledger.open(run.parents[1] / FILE_NAME) as ledger:
        dataset = summarise(ledger.state, "embedded", DELTA)
    assert dataset.planned_epsilon == epsilon


def test_a_tracker_is_told_public_numbers_and_released_metrics_alone(
    run: Path, events: dict[str, list[tuple[int, float]]]
) -> None:
    assert set(events) == TOLD
    assert {len(events[name]) for name in TOLD - {"accuracy", "delta", "epsilon"}} == {STEPS}
    metrics = json.loads((run / "metrics.json").read_text())
    assert events["accuracy"] == [(STEPS, metrics["metrics"]["accuracy"])]
    assert events["noise_multiplier"][0] == (1, metrics["noise_multiplier"])
    assert events["expected_batch_size"][0] == (1, 32.0)


def test_settings_are_told_without_folders(run: Path) -> None:
    (file,) = (run / "trackers").rglob("hparams.yml")
    told = file.read_text()
    for line in ("task: embedded", "adapter.name: lora", "run.seed: 0", "plan.steps: 2"):
        assert line in told.splitlines()
    assert str(run.parent) not in told
    assert str(Path(__file__).parents[2]) not in told


def test_trackers_are_off_unless_asked_for() -> None:
    assert compose_settings([]).run.trackers == ()
    assert compose_settings(["run.trackers=[mlflow,wandb]"]).run.trackers == (
        TrackerName.MLFLOW,
        TrackerName.WANDB,
    )


def test_the_saved_configuration_names_the_trackers(run: Path) -> None:
    settings = settings_from_yaml((run / "config.yaml").read_text())
    assert settings.run.trackers == (TrackerName.TENSORBOARD,)


def test_a_missing_package_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr("dpft.recipes.training.load_model", pytest.fail)
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "wandb" else known(name, *rest),
    )
    assert cli.main(["train", "run.trackers=[wandb]", f"hydra.run.dir={tmp_path}/run"]) == 2
    assert 'pip install "dpft[trackers]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused_under_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["run.trackers=[tensorbord]", f"hydra.run.dir={tmp_path}/run"]
    assert cli.main(["train", *given]) == 2
    said = capsys.readouterr().err
    assert "Expected run.trackers.0='tensorbord' to be valid" in said
    assert "tensorboard" in said


def test_a_selection_tells_no_tracker_of_its_trials() -> None:
    grid = ["privacy.steps=2", "optim.learning_rate=1e-3,5e-3", "run.trackers=[tensorboard]"]
    with pytest.raises(ConfigurationError, match=r"run\.trackers to be empty"):
        candidates_of(grid)


def test_the_operator_hears_of_a_tracker_that_failed_and_the_run_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        def start(self, settings: Any) -> None:
            """Start as if all were well."""

        def log(self, *_: Any) -> None:
            raise OSError(28, "No space left on device")

        def finish(self) -> None:
            """Nothing to close."""

    monkeypatch.setitem(BACKENDS, TrackerName.TENSORBOARD, lambda _: Failing())
    with monkeypatch.context() as patch:
        patch.setattr(logging.root, "handlers", [])  # as outside of pytest
        assert cli.main(["train", *OVERRIDES, f"hydra.run.dir={tmp_path}/runs/a/run"]) == 0
    assert capsys.readouterr().err.count("Tracker tensorboard failed (OSError)") == 1
    assert "Tracker" not in (tmp_path / "runs" / "a" / "run" / "run.log").read_text()
