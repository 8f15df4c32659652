"""accelerate's trackers as we call them: no network, no machine, no user, no time of a step."""

import importlib
import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from accelerate.state import PartialState  # type: ignore[import-untyped]  # no stubs

from dpft.errors import ConfigurationError
from dpft.optim import Optim
from dpft.privacy import Privacy
from dpft.progress import EpsilonCourse
from dpft.tracking import Tracking, backends

STEPS = 3
MARKS = {"HOME": "/home/markedhome", "USER": "markeduser", "LOGNAME": "markeduser"}
HOST = "markedhost"
ON_NETWORK = ("WANDB_MODE", "MLFLOW_TRACKING_URI", "MLFLOW_TAGS", "MLFLOW_RUN_ID")


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Mark the names of machine and user, and keep what is not published in a folder."""
    for name, value in MARKS.items():
        monkeypatch.setenv(name, value)
    for name in ON_NETWORK:
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "true" if name.startswith("MLFLOW") else "false")
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    folder = tmp_path / "private"
    monkeypatch.setenv("DPFT_PRIVATE", str(folder))
    yield folder
    PartialState._reset_state()


def plan() -> Any:
    fields = {"delta": 1e-3, "expected_batch_size": 20, "steps": STEPS, "noise_multiplier": 2.0}
    return Privacy(**fields).plan(80)


def track(name: str, folder: Path) -> None:
    """Let a tracker follow a run of three steps, without the run."""
    course = EpsilonCourse(plan(), private=True)
    with Tracking([name]) as tracking:
        tracking.start(folder, plan(), Optim())
        for step in range(1, STEPS + 1):
            tracking.after_step(course.after(step))
        tracking.after_training(plan().epsilon(), 1e-3)
        tracking.after_evaluation({"accuracy": 0.5}, {"accuracy": {"status": "public"}})


def followed(made: Any) -> None:
    """Let a backend follow three steps."""
    PartialState(cpu=True)
    made.start({"plan.steps": STEPS})
    for step in range(1, STEPS + 1):
        made.log({"spent_epsilon": step / 3}, step)


def names_and_content(folder: Path) -> str:
    paths = sorted(folder.rglob("*"))
    content = [path.read_bytes().decode("latin-1") for path in paths if path.is_file()]
    return "\n".join([*(str(path.relative_to(folder)) for path in paths), *content])


def events(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return (step, wall time, value) of every tag."""
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [
            (event.step, event.wall_time, event.tensor_proto.double_val[0])
            for event in found.Tensors(tag)
        ]
        for tag in found.Tags()["tensors"]
    }


def test_tensorboard_holds_epsilon_in_full_and_step_numbers_for_times(tmp_path: Path) -> None:
    track("tensorboard", tmp_path / "run")
    found = events(tmp_path / "run" / "trackers" / "tensorboard")
    assert found["epsilon"] == [(STEPS, float(STEPS), plan().epsilon())]
    assert found["accuracy"] == [(STEPS, float(STEPS), 0.5)]
    assert [step for step, _, _ in found["spent_epsilon"]] == [1, 2, 3]
    assert [time for _, time, _ in found["spent_epsilon"]] == [1.0, 2.0, 3.0]
    assert found["spent_epsilon"][-1][2] == plan().epsilon()


def test_event_files_name_neither_machine_nor_user_nor_folder(tmp_path: Path) -> None:
    track("tensorboard", tmp_path / "run")
    written = names_and_content(tmp_path / "run" / "trackers")
    assert "differential privacy" in written
    for mark in (HOST, *MARKS.values(), str(tmp_path), str(Path.cwd())):
        assert mark not in written


def test_a_writer_that_names_the_host_all_the_same_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_nameless_event_files", nullcontext)
    with pytest.raises(ConfigurationError, match="named after this machine"):
        track("tensorboard", tmp_path / "run")


def test_a_full_disk_stops_tensorboard_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    track("tensorboard", tmp_path / "run")
    assert [record.name for record in caplog.records if record.name.startswith("dpft")] == [
        "dpft.tracking.session"
    ]


class FakeWandB(ModuleType):
    """W&B as far as accelerate's tracker calls it."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.config = SimpleNamespace(update=lambda values, **_: self.note("config", values))
        self.Settings = dict

    def init(self, **arguments: Any) -> Any:
        self.note("init", arguments)
        return SimpleNamespace(
            log=lambda values, step: self.note("log", (values, step)),
            finish=lambda: self.note("finish", None),
        )

    def note(self, name: str, value: Any) -> None:
        self.calls.append((name, value))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandB:
    fake = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_stays_offline_and_records_neither_machine_nor_code(
    wandb: FakeWandB, tmp_path: Path, private: Path
) -> None:
    followed(backends._WandB(tmp_path))
    (name, arguments), *_ = wandb.calls
    assert name == "init"
    settings = arguments["settings"]
    assert settings["mode"] == "offline"
    assert settings["console"] == "off"
    for off in ("x_disable_stats", "x_disable_meta", "x_disable_machine_info", "disable_git"):
        assert settings[off] is True
    assert settings["disable_code"] is True
    assert settings["save_code"] is settings["x_save_requirements"] is False
    assert {settings[key] for key in ("host", "username", "email")} == {"not recorded"}
    assert settings["program"] == settings["program_abspath"] == "dpft"
    assert Path(settings["root_dir"]) == Path(arguments["dir"]) == private / "trackers"
    assert (private / "trackers").stat().st_mode & 0o777 == 0o700


def test_wandb_gets_its_rows_when_training_has_ended(wandb: FakeWandB, tmp_path: Path) -> None:
    made = backends._WandB(tmp_path)
    followed(made)
    assert [name for name, _ in wandb.calls] == ["init", "config"]
    made.finish()
    rows = [({"spent_epsilon": step / 3}, step) for step in (1, 2, 3)]
    assert wandb.calls[2:] == [*(("log", row) for row in rows), ("finish", None)]


def test_wandb_goes_online_where_the_environment_says_so(
    wandb: FakeWandB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    followed(backends._WandB(tmp_path))
    assert wandb.calls[0][1]["settings"]["mode"] == "online"


class FakeMLflow(ModuleType):
    """MLflow as far as accelerate's tracker calls it."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: list[tuple[str, Any]] = []
        self.utils = SimpleNamespace(
            validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
        )

    def search_experiments(self, **_: Any) -> list[Any]:
        self.note("place", os.environ.get("MLFLOW_TRACKING_URI"))
        self.note("system", os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"))
        return []

    def create_experiment(self, **arguments: Any) -> str:
        self.note("experiment", arguments)
        return "1"

    def start_run(self, **arguments: Any) -> object:
        self.note("run", arguments)
        return object()

    def log_params(self, values: Any) -> None:
        self.note("params", values)

    def log_metrics(self, values: Any, step: int, timestamp: int) -> None:
        self.note("metrics", (values, step, timestamp))

    def end_run(self) -> None:
        self.note("end", None)

    def note(self, name: str, value: Any) -> None:
        self.calls.append((name, value))

    def of(self, name: str) -> list[Any]:
        return [value for called, value in self.calls if called == name]


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMLflow:
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return fake


def test_mlflow_writes_to_the_private_folder_and_leaves_no_trace_in_the_environment(
    mlflow: FakeMLflow, tmp_path: Path, private: Path
) -> None:
    made = backends._MLflow(tmp_path)
    followed(made)
    made.finish()
    assert mlflow.of("place") == [f"sqlite:///{private / 'trackers' / 'mlflow.db'}"]
    assert mlflow.of("system") == ["false"]
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING" not in os.environ
    assert mlflow.of("metrics") == [
        ({"spent_epsilon": step / 3}, step, 1000 * step) for step in (1, 2, 3)
    ]
    assert mlflow.of("end") == [None]


def test_mlflow_is_told_neither_user_nor_program_nor_repository(
    mlflow: FakeMLflow, tmp_path: Path
) -> None:
    followed(backends._MLflow(tmp_path))
    (run,) = mlflow.of("run")
    told = {name for name, value in run["tags"].items() if value == "not recorded"}
    assert told == set(backends._OF_THE_MACHINE)
    assert str(tmp_path) not in str(mlflow.of("experiment"))


def test_mlflow_goes_where_the_environment_says(
    mlflow: FakeMLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example")
    made = backends._MLflow(tmp_path)
    followed(made)
    made.finish()
    assert mlflow.of("place") == ["https://tracking.example"]
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://tracking.example"


def test_a_run_of_mlflow_that_is_not_ours_is_not_ended(mlflow: FakeMLflow, tmp_path: Path) -> None:
    backends._MLflow(tmp_path).finish()
    assert not mlflow.of("end")


@needs("wandb")
@pytest.mark.filterwarnings("ignore")  # its own, of the libraries below it
def test_the_file_that_wandb_writes_names_neither_machine_nor_user_nor_folder(
    tmp_path: Path, private: Path
) -> None:
    track("wandb", tmp_path / "run")
    importlib.import_module("wandb").teardown()  # waits until its own process has written
    (file,) = (private / "trackers").rglob("run-*.wandb")
    written = file.read_bytes().decode("latin-1")
    assert repr(plan().epsilon()) in written
    for mark in (HOST, *MARKS.values(), str(tmp_path), str(Path.cwd())):
        assert mark not in written
    assert not (tmp_path / "run").exists()


@needs("mlflow")
@pytest.mark.filterwarnings("ignore")  # its own, of the libraries below it
@pytest.mark.slow
def test_the_database_of_mlflow_holds_epsilon_in_full(tmp_path: Path, private: Path) -> None:
    import sqlite3

    track("mlflow", tmp_path / "run")
    with sqlite3.connect(private / "trackers" / "mlflow.db") as database:
        found = database.execute("select value from metrics where key = 'epsilon'").fetchall()
        users = database.execute("select user_id from runs").fetchall()
    assert found == [(plan().epsilon(),)]
    assert users == [("not recorded",)]
    assert not (tmp_path / "run").exists()
