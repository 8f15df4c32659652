"""`dpft train`: Hydra composes the settings, `dpft.recipes.training` does the work.

The settings are validated once before Hydra makes the run folder, so that a refused run leaves
nothing behind. torch is imported when training starts.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from dpft.recipes.config.composition import (
    CONFIG_MODULE,
    CONFIG_NAME,
    compose_settings,
    explained,
    settings_from,
    yaml_of,
)
from dpft.recipes.config.store import register_schemas
from dpft.recipes.preparation import prepare
from dpft.run_folder import RunFolder

__all__ = ["main"]

_FULL_ERROR = "HYDRA_FULL_ERROR"


def main(argv: Sequence[str]) -> int:
    """Train one adapter, or several in a sweep.

    Args:
        argv: Hydra's overrides and flags.

    Returns:
        0; every failure is raised.

    Raises:
        ConfigurationError: If a setting is unknown, missing or out of range; nothing is written.

    Privacy:
        As `dpft.fit`. A sweep over settings of one data set is as many releases.
    """
    register_schemas()
    failures: list[Exception] = []
    with explained(argv):
        if not any(argument.startswith("-") for argument in argv):
            compose_settings(argv)
        with _process_as_hydra_expects(argv):
            _hydra_main(failures)
    if failures:
        raise failures[0]
    return 0


def _hydra_main(failures: list[Exception]) -> None:
    """Let Hydra run the job; the failure of a single job is kept, since Hydra prints its own."""

    def job(config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        try:
            _train(config, folder)
        except Exception as error:
            _remove_if_empty(folder)
            if hydra_config.mode is not RunMode.RUN:
                raise  # a sweep ends with its first failure
            failures.append(error)

    path = f"pkg://{CONFIG_MODULE}"
    hydra.main(version_base="1.3", config_path=path, config_name=CONFIG_NAME)(job)()


def _train(config: DictConfig, folder: Path) -> None:
    """Refuse what can be refused, and only then import torch."""
    RunFolder(folder).refuse_another_run()
    prepared = prepare(settings_from(config))
    from dpft.recipes.cli.training_output import train_and_print

    train_and_print(prepared, folder, yaml_of(config))


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something: then it stays
        folder.rmdir()


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
