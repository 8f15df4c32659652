"""accelerate's trackers with our arguments: no network, no name of machine or user, no clock.

The moments at which steps end depend on what was sampled. Where a tracker takes a time, it is
given the number of the step in its place; where it takes none, everything is sent after training.
"""

import importlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from dpft.accounting.ledger import private_folder
from dpft.errors import ConfigurationError
from dpft.tracking.content import Setting
from dpft.tracking.names import TrackerName

__all__ = ["BACKENDS", "Backend"]

_PROJECT = "dpft"
_NOBODY = "not recorded"
_MLFLOW_PLACE = "MLFLOW_TRACKING_URI"
_WANDB_MODE = "WANDB_MODE"
_MILLISECONDS = 1000
_OF_THE_MACHINE = (
    "mlflow.source.git.branch",
    "mlflow.source.git.commit",
    "mlflow.source.git.repoURL",
    "mlflow.source.name",
    "mlflow.user",
)


class Backend(Protocol):
    """What the session needs of a tracker; its errors are the session's to catch."""

    def start(self, settings: Mapping[str, Setting]) -> None:
        """Open the tracker and send the settings."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values of a step."""
        ...

    def finish(self) -> None:
        """Close the tracker; nothing happens if it never started."""
        ...


class _TensorBoard:
    """Event files in the run folder, with epsilon in double precision: never rounded down."""

    def __init__(self, folder: Path) -> None:
        from accelerate.tracking import (  # type: ignore[import-untyped]  # no stubs
            TensorBoardTracker,
        )

        self._inner = TensorBoardTracker(TrackerName.TENSORBOARD.value, folder)

    def start(self, settings: Mapping[str, Setting]) -> None:
        with _nameless_event_files():
            self._inner.start()
            self._inner.store_init_configuration(dict(settings))
        _refuse_name_of_host(Path(self._inner.logging_dir))

    def log(self, values: Mapping[str, float], step: int) -> None:
        exact = {"new_style": True, "double_precision": True}
        self._inner.log(dict(values), step=step, walltime=float(step), **exact)

    def finish(self) -> None:
        if hasattr(self._inner, "writer"):
            self._inner.finish()


class _MLflow:
    """The user's server if the environment names one, else a database that is not published.

    MLflow writes the working folder into its database, so that it cannot lie in the run folder.
    """

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - of the run; see above
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
        from accelerate.tracking import MLflowTracker

        self._inner = MLflowTracker(_PROJECT, logging_dir="mlflow-artifacts:/", run_name=_PROJECT)
        own = dict.fromkeys(_OF_THE_MACHINE, _NOBODY)
        self._inner.tags = own | dict(self._inner.tags or {})
        self._names_place = _MLFLOW_PLACE not in os.environ

    def start(self, settings: Mapping[str, Setting]) -> None:
        if self._names_place:
            os.environ[_MLFLOW_PLACE] = f"sqlite:///{_private_place() / 'mlflow.db'}"
        with _variable("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false"):
            self._inner.start()
        self._inner.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._inner.log(dict(values), step=step, timestamp=_MILLISECONDS * step)

    def finish(self) -> None:
        if hasattr(self._inner, "active_run"):
            self._inner.finish()
        if self._names_place:
            os.environ.pop(_MLFLOW_PLACE, None)


class _WandB:
    """Offline unless the environment says otherwise, in a folder that is not published.

    W&B keeps debug logs with paths, and notes beside every row how long the run has lasted: rows
    are sent when training has ended, so that no step's time is told.
    """

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - of the run; see above
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        from accelerate.tracking import WandBTracker

        self._inner = WandBTracker(_PROJECT)
        self._rows: list[tuple[dict[str, float], int]] = []

    def start(self, settings: Mapping[str, Setting]) -> None:
        wandb = importlib.import_module("wandb")
        place = _private_place()
        self._inner.init_kwargs = {
            "dir": str(place),
            "settings": wandb.Settings(**_wandb_settings(place)),
        }
        self._inner.start()
        self._inner.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._rows.append((dict(values), step))

    def finish(self) -> None:
        if not hasattr(self._inner, "run"):
            return
        try:
            for values, step in self._rows:
                self._inner.log(values, step=step)
        finally:
            self._inner.finish()


BACKENDS: Mapping[TrackerName, Callable[[Path], Backend]] = {
    TrackerName.MLFLOW: _MLflow,
    TrackerName.TENSORBOARD: _TensorBoard,
    TrackerName.WANDB: _WandB,
}
"""How each tracker is made; the argument is its folder in the run folder, which some do not use."""


def _wandb_settings(place: Path) -> dict[str, Any]:
    """Return settings that keep code, console, machine and user out of what W&B writes."""
    return {
        "mode": os.environ.get(_WANDB_MODE, "offline"),
        "root_dir": str(place),
        "silent": True,
        "console": "off",
        "save_code": False,
        "disable_code": True,
        "disable_git": True,
        "disable_job_creation": True,
        "host": _NOBODY,
        "username": _NOBODY,
        "email": _NOBODY,
        "program": _PROJECT,
        "program_relpath": _PROJECT,
        "program_abspath": _PROJECT,
        "x_disable_machine_info": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_save_requirements": False,
    }


def _private_place() -> Path:
    place = private_folder() / "trackers"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.chmod(0o700)
    return place.resolve()


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _nameless_event_files() -> Iterator[None]:
    """Keep the host's name out of the names of event files, which offer no other way."""
    writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    before = writer.socket
    writer.socket = SimpleNamespace(gethostname=lambda: _PROJECT)
    try:
        yield
    finally:
        writer.socket = before


def _refuse_name_of_host(folder: Path) -> None:
    """Raise if a release of TensorBoard that names its files otherwise put the host's name in."""
    host = socket.gethostname()
    if host != _PROJECT and any(f".{host}." in path.name for path in folder.rglob("*")):
        raise ConfigurationError(
            f"Expected no file of {folder} to be named after this machine. The run folder may be "
            "published. Use another release of tensorboard, or leave the tracker out."
        )
