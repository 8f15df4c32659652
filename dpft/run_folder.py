"""The folder that one run writes. Everything in it may be published. No torch in here.

    config.yaml        the resolved settings
    environment.json   versions, kind of machine, commit
    metrics.json       what was measured, and what each metric cost
    certificate.json   the mechanisms that touched the data
    report.md          the page for an auditor
    adapter/           loads with plain peft; a model of transformers where all of it was trained
    charges.jsonl      one line for every step, written before it is sampled (`dpft.charges`)
    checkpoints/       iterates to resume from (`dpft.checkpoint`)
    run.log            one line per few steps, no times
    trackers/          event files of TensorBoard, if it was asked for (`dpft.tracking`)

What may not be published (tracebacks, malformed records, realised batch sizes, memory peaks) goes
to the operator's console and nowhere else.
"""

import dataclasses
import errno
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from dpft.accounting.bounded_files import bounded_text
from dpft.accounting.canonical_json import misfit, parsed
from dpft.errors import ConfigurationError, StorageError

__all__ = ["RunFolder", "environment", "make_durable", "storing", "write_whole"]

_DISTRIBUTIONS = (
    "dpft",
    "cryptography",
    "datasets",
    "dp-accounting",
    "hydra-core",
    "numpy",
    "omegaconf",
    "opacus",
    "peft",
    "pydantic",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
_NEEDED = (
    "config.yaml",
    "metrics.json",
    "certificate.json",
    "report.md",
)
_NEEDED_OF_AN_ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
_WHOLE_MODEL = "adapter/config.json"
# What a run writes before its first step is charged.
_BEFORE_THE_FIRST_STEP = {"config.yaml", ".config.yaml.draft", "run.log", "trackers"}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Names and writes the files of one run.

    Args:
        path: The folder.

    Privacy:
        Whoever writes a file here declares its content releasable
        (`tests/end_to_end/test_run_folder_is_releasable.py`).
    """

    path: Path

    @classmethod
    def create(cls, path: Path | str) -> "RunFolder":
        """Make the folder of a new run.

        Args:
            path: A folder that is absent or empty.

        Returns:
            The folder.

        Raises:
            ConfigurationError: If the folder holds anything.
            StorageError: If nothing can be written there.

        Privacy:
            Nothing, no data touched. A second run never mixes its files with those of another,
            whose certificate would then be wrong.
        """
        folder = cls(Path(path))
        folder.refuse_another_run()
        folder.refuse_unwritable()
        return folder

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Open the folder of a finished run.

        Args:
            path: Folder written by `dpft train`.

        Returns:
            The folder.

        Raises:
            ConfigurationError: If a file of a finished run is missing.

        Privacy:
            Nothing, no data touched.
        """
        folder = cls(Path(path))
        missing = folder._missing()
        if missing:
            raise ConfigurationError(
                f"Expected run={folder.path} to hold {', '.join(missing)}. The run did not finish, "
                "or this is no run folder. Name the folder of a finished run, or train again."
            )
        return folder

    @classmethod
    def reopen(cls, path: Path | str) -> "RunFolder":
        """Open the folder of a run that was interrupted, at whatever point.

        Args:
            path: Folder of an unfinished run; one that is absent or empty is made.

        Returns:
            The folder.

        Raises:
            ConfigurationError: If the run finished, or the folder holds something else.
            StorageError: If nothing can be written there.

        Privacy:
            Nothing, no data touched.
        """
        folder = cls(Path(path))
        folder.refuse_finished()
        if not folder.charges.exists():
            folder._refuse_anything_but(_BEFORE_THE_FIRST_STEP)
        folder.refuse_unwritable()
        return folder

    def _missing(self) -> list[str]:
        needed = (*_NEEDED, *(() if self.holds_whole_model else _NEEDED_OF_AN_ADAPTER))
        missing = [name for name in needed if not (self.path / name).is_file()]
        if self.holds_whole_model and not any(self.adapter.glob("*.safetensors")):
            missing.append("adapter/model.safetensors")
        return missing

    @property
    def holds_whole_model(self) -> bool:
        """Whether what was trained is a model of transformers, not an adapter of peft."""
        return (self.path / _WHOLE_MODEL).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether everything is there; the report, and metrics beside a config.yaml, come last."""
        last = [self.adapter, self.certificate, self.report]
        return all(path.exists() for path in [*last, *[self.metrics] * self.config.exists()])

    def refuse_finished(self) -> None:
        """Raise `ConfigurationError` if the run finished.

        Privacy:
            Nothing, no data touched.
        """
        if self.is_finished:
            raise ConfigurationError(
                f"Expected resumed run={self.path} to be unfinished. All its steps are taken and "
                "its artefacts written; more steps would be a new release. Start a new run."
            )

    def refuse_another_run(self) -> None:
        """Raise `ConfigurationError` unless the folder is absent or empty.

        Privacy:
            Nothing, no data touched.
        """
        self._refuse_anything_but(set())

    def refuse_unwritable(self) -> None:
        """Make the folder if it is absent, and raise unless files can be made in it.

        Raises:
            StorageError: If they cannot; asked for before a budget pays for the run.

        Privacy:
            Nothing, no data touched.
        """
        with storing(self.path, "nothing was charged and no record was read"):
            self.path.mkdir(parents=True, exist_ok=True)
            effective = os.access in os.supports_effective_ids
            if not os.access(self.path, os.W_OK | os.X_OK, effective_ids=effective):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _refuse_anything_but(self, names: set[str]) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir() or {path.name for path in self.path.iterdir()} - names:
            raise ConfigurationError(
                f"Expected run folder={self.path} to be absent or empty. It would mix the files of "
                "two runs, and one certificate would be wrong. Choose another hydra.run.dir, or "
                "continue an interrupted run with run.resume."
            )

    @property
    def adapter(self) -> Path:
        """Folder of the adapter; of the whole model, where all of it was trained."""
        return self.path / "adapter"

    @property
    def certificate(self) -> Path:
        """File of the certificate."""
        return self.path / "certificate.json"

    @property
    def charges(self) -> Path:
        """File of the charges."""
        return self.path / "charges.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """File of the report."""
        return self.path / "report.md"

    @property
    def log(self) -> Path:
        """File of the log."""
        return self.path / "run.log"

    @property
    def config(self) -> Path:
        """File of the resolved settings."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """File of the metrics."""
        return self.path / "metrics.json"

    def write_config(self, text: str) -> None:
        """Write the resolved settings, given as YAML.

        Privacy:
            Settings are public.
        """
        write_whole(self.config, text)

    def write_environment(self) -> None:
        """Write versions, kind of machine and commit; no host, user or path.

        Privacy:
            Nothing, no data touched (`tests/dpft/test_run_folder.py`).
        """
        _write_json(self.path / "environment.json", environment())

    def write_metrics(self, values: Mapping[str, Any]) -> None:
        """Write the metrics.

        Args:
            values: Releasable values; infinities become null, since JSON has none.

        Privacy:
            Only public or already noisy values may be given.
        """
        _write_json(self.metrics, values)

    def read_metrics(self) -> dict[str, Any]:
        """Read the metrics back.

        Raises:
            ConfigurationError: If the file is damaged.

        Privacy:
            Nothing, no data touched: metrics are released values.
        """
        values = parsed(self.metrics.name, bounded_text(self.metrics))
        if not isinstance(values, dict):
            raise ConfigurationError(misfit(self.metrics.name, values, "an object"))
        return values


def environment() -> dict[str, Any]:
    """Return versions, kind of machine and commit, without anything that names host or user.

    Privacy:
        Nothing, no data touched.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
        "commit": _commit(),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout this file lies in, or None."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    write_whole(path, json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: neither a crash nor a full disk leaves half a file.

    Raises:
        StorageError: If it cannot be written; what was there before is unchanged.

    Privacy:
        Releases the text as it is.
    """
    draft = path.with_name(f".{path.name}.draft")
    with storing(path, "what was there before is unchanged"):
        try:
            draft.write_text(text, encoding="utf-8")
            make_durable(draft)
            os.replace(draft, path)  # noqa: PTH105 - the atomic call by its name
        except OSError:
            with suppress(OSError):  # half a file would take the room that is missing
                draft.unlink()
            raise
        make_durable(path.parent)


@contextmanager
def storing(path: Path, stands: str) -> Iterator[None]:
    """Say what could not be written, and what is valid all the same.

    Args:
        path: The file or folder that is written within.
        stands: What is so although it failed.

    Raises:
        StorageError: In the place of an error of the operating system.

    Privacy:
        Nothing, no data touched.
    """
    try:
        yield
    except OSError as error:
        told = error.__cause__ if isinstance(error, StorageError) else error  # within `path`
        reason = getattr(told, "strerror", None) or told
        raise StorageError(
            f"Expected {path} to be writable ({reason}). It is not, but {stands}. Make room or "
            "give the right to write, and try again; a run goes on with run.resume."
        ) from told


def make_durable(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk.

    Privacy:
        Nothing, no data touched.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
