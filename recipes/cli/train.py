"""`dpft train`: Hydra composes the settings, `dpft.recipes.training` does the work.

The settings are validated once before Hydra makes the run folder, so that a refused run leaves
nothing behind. torch is imported when training starts. `run.resume=DIR` continues an interrupted
run in its own folder: `hydra.run.dir` follows it.
"""

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dpft.charges import has_failed, origin_of
from dpft.errors import ConfigurationError
from dpft.ledger_place import ledger_place
from dpft.recipes.cli.ledger_output import booked
from dpft.recipes.cli.sweep_table import SweptRun, sweep_table
from dpft.recipes.config.composition import (
    CONFIG_MODULE,
    CONFIG_NAME,
    compose_settings,
    explained,
    settings_from,
    yaml_of,
)
from dpft.recipes.config.store import register_schemas
from dpft.recipes.preparation import book_run, prepare
from dpft.recipes.resumption import refuse_unless_fit
from dpft.run_folder import RunFolder

if TYPE_CHECKING:
    from dpft.recipes.training import Outcome

__all__ = ["main"]

_FULL_ERROR = "HYDRA_FULL_ERROR"
_RESUME = "run.resume"
_SWEEPS = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
# --config-dir, --config-path, --config-name, --experimental-rerun, and what they stand for
_FOREIGN = re.compile(r"^--co|^-c[dnp]|^--e|hydra\.searchpath|hydra\.callbacks|\b_target_\b")
_PLAIN = re.compile(r"[\w./@-]+")  # what Hydra reads without quotes


def main(argv: Sequence[str]) -> int:
    """Train one adapter, or several in a sweep.

    Args:
        argv: Hydra's overrides and flags.

    Returns:
        0; every failure is raised.

    Raises:
        ConfigurationError: If a setting is unknown, missing or out of range, a run is to be
            resumed that cannot be, or settings are to come from a file elsewhere; nothing is
            written.

    Privacy:
        As `dpft.fit`. A sweep over settings of one data set is as many releases.
    """
    _refuse_foreign_settings(argv)
    register_schemas()
    failures: list[Exception] = []
    with explained(argv):
        if not any(argument.startswith("-") for argument in argv):
            compose_settings(argv)
        with _process_as_hydra_expects([*argv, *_folder_of_resumed(argv)]):
            _hydra_main(argv, failures)
    if failures:
        raise failures[0]
    return 0


def _refuse_foreign_settings(argv: Sequence[str]) -> None:
    """Refuse what lets Hydra make classes named in a file, or unpickle one."""
    found = [argument for argument in argv if _FOREIGN.search(argument)]
    if found:
        raise ConfigurationError(
            f"Expected {' '.join(found)} to be left out. Settings come from the package and the "
            "command line alone: a file from elsewhere could name classes to make and code to "
            "run. Give its values as overrides."
        )


def _hydra_main(argv: Sequence[str], failures: list[Exception]) -> None:
    """Let Hydra run the job; the failure of a single job is kept, since Hydra prints its own."""
    sweep: list[SweptRun] = []

    def job(config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        in_sweep = hydra_config.mode is not RunMode.RUN
        own = hydra_config.overrides.task if in_sweep else argv
        # runs of a sweep are charged where other runs are: beside the sweep, not within it
        beside = Path(hydra_config.sweep.dir) if in_sweep else folder
        try:
            outcome = _train(config, folder, beside)
            if in_sweep:
                done = SweptRun(tuple(own), outcome.result.certificate, outcome.metrics.values)
                sweep.append(done)
        except KeyboardInterrupt:
            _say_how_to_go_on(folder, own, config, beside)
            raise
        except Exception as error:
            _remove_if_empty(folder)
            if in_sweep:
                raise  # a sweep ends with its first failure
            if not isinstance(error, ConfigurationError):
                _say_how_to_go_on(folder, own, config, beside)
            failures.append(error)

    path = f"pkg://{CONFIG_MODULE}"
    try:
        hydra.main(version_base="1.3", config_path=path, config_name=CONFIG_NAME)(job)()
    finally:
        if sweep:
            print(sweep_table(sweep))


def _train(config: DictConfig, folder: Path, beside: Path) -> "Outcome":
    """Refuse what can be refused, and only then import torch; return what the run leaves."""
    settings = settings_from(config)
    refuse_unless_fit(settings, folder)
    prepared = prepare(settings)
    place = ledger_place(prepared.privacy, beside)
    privacy = dataclasses.replace(prepared.privacy, ledger=str(place))
    prepared = dataclasses.replace(prepared, privacy=privacy)
    OmegaConf.update(config, _RESUME, None)  # config.yaml says what the run is, not how it went on
    with book_run(prepared, folder) as booking:
        print(booked(booking))
        from dpft.recipes.cli.training_output import train_and_print

        return train_and_print(prepared, folder, yaml_of(config), booking)


def _folder_of_resumed(argv: Sequence[str]) -> list[str]:
    """Return the override that lets Hydra run in the folder of the resumed run, if there is one."""
    given = [argument for argument in argv if argument.lstrip("+").startswith(f"{_RESUME}=")]
    if not given:
        return []
    folder = OverridesParser.create().parse_override(given[-1]).value()
    if folder is None:
        return []
    if _SWEEPS & set(argv):
        raise ConfigurationError(
            f"Expected run.resume={folder} without a sweep. One run is resumed at a time. Leave "
            f"{' and '.join(sorted(_SWEEPS & set(argv)))} out."
        )
    if not isinstance(folder, str | int | float) or not Path(str(folder)).is_dir():
        raise ConfigurationError(
            f"Expected run.resume={folder} to be the folder of an interrupted run. There is no "
            "such folder. Name the one that dpft train printed, or start a new run without it."
        )
    return [_override("hydra.run.dir", str(folder))]


def _override(key: str, value: str) -> str:
    quoted = value.replace("'", r"\'")
    return f"{key}={value}" if _PLAIN.fullmatch(value) else f"{key}='{quoted}'"


def _say_how_to_go_on(folder: Path, words: Sequence[str], config: DictConfig, beside: Path) -> None:
    """Name the command that continues an interrupted run; to the console, not to run.log."""
    run = RunFolder(folder)
    if not run.charges.exists() or run.is_finished:
        return
    if has_failed(run.charges):
        said = "A step failed, which may depend on a record: this run cannot be resumed."
        print(said, file=sys.stderr)
        return
    place = ledger_place(settings_from(config).privacy, beside)
    before = [word for word in words if not word.lstrip("+").startswith(f"{_RESUME}=")]
    if beside != folder:
        before.append(_override("privacy.ledger", str(place)))
    command = shlex.join(["dpft", "train", *before, _override(_RESUME, str(folder))])
    said = f"The run was interrupted; what it charged stays charged. To continue it:\n  {command}"
    print(said, file=sys.stderr)
    origin = origin_of(run.charges)
    if origin is not None:
        settle = shlex.join(["dpft", "ledger", "settle", origin.run_id, "--ledger", str(place)])
        print(f"To give up the steps it has not begun:\n  {settle}", file=sys.stderr)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of a run that was refused, and those around it that Hydra made for it."""
    here = Path.cwd()
    made = [each for each in folder.parents if here in each.parents]
    with suppress(OSError):  # one holds something: then it stays, and what is around it
        for each in (folder, *made):
            each.rmdir()


@contextmanager
def _process_as_hydra_expects(argv: Sequence[str]) -> Iterator[None]:
    """Give Hydra its arguments, and ask it to raise errors instead of printing and exiting."""
    before = sys.argv, os.environ.get(_FULL_ERROR)
    sys.argv = ["dpft train", *argv]
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before[1]
