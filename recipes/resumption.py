"""Whether a run folder may be continued by the present settings. No torch in here.

The library compares what the guarantee rests on (`dpft.fingerprint`); the command line also
compares the settings themselves, above all which records are read: no digest of records is kept.
"""

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any

from dpft.accounting.bounded_files import bounded_text
from dpft.charges import has_failed, noted_steps, origin_of
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.recipes.config.composition import settings_from_yaml
from dpft.recipes.config.schema import TrainSettings
from dpft.run_folder import RunFolder

__all__ = ["refuse_unless_fit"]

# A ledger may have moved; whether it is the run's own is told by the ledger itself.
_MAY_DIFFER = {
    "privacy.ledger",
    "run.checkpoint_every",
    "run.log_every",
    "run.resume",
    "run.trackers",
}


def refuse_unless_fit(settings: TrainSettings, folder: Path) -> None:
    """Raise unless the folder is free for a new run, or holds the one that is to be resumed.

    Args:
        settings: What was asked for.
        folder: The run folder.

    Raises:
        ConfigurationError: If the folder holds another run, a finished one, or one of other
            settings; every setting that differs is named.
        BrokenGuaranteeError: If a step of the run failed.
        StorageError: If nothing can be written into the folder.

    Privacy:
        Nothing, no data touched. A run that goes on with other records or another guarantee would
        carry a certificate that is wrong (`tests/end_to_end/test_interruption.py`).
    """
    resumed = settings.run.resume
    if resumed is None:
        RunFolder(folder).refuse_another_run()
        if folder.exists():
            RunFolder(folder).refuse_unwritable()
        return
    if Path(resumed).resolve() != folder.resolve():
        raise ConfigurationError(
            f"Expected run.resume={resumed} to be the folder of this run, {folder}. One run has "
            "one folder. Give run.resume on the command line of dpft train, without a sweep."
        )
    reopened = RunFolder.reopen(folder)
    _refuse_failed(reopened)
    _refuse_changed(settings, reopened)


def _refuse_failed(folder: RunFolder) -> None:
    if folder.charges.exists() and has_failed(folder.charges):
        raise BrokenGuaranteeError(
            f"Expected run.resume={folder.path} to be a run without a failed step. That a step "
            "fails may depend on a record. Start a new run; it is a new release."
        )


def _refuse_changed(settings: TrainSettings, folder: RunFolder) -> None:
    if not folder.config.exists():
        if origin_of(folder.charges) is not None and noted_steps(folder.charges):
            raise ConfigurationError(
                f"Expected run.resume={folder.path} to hold config.yaml. Without it nobody knows "
                "what the run is. Resume it with dpft.fit, if that wrote it, or start a new run."
            )
        return
    then = _flat(settings_from_yaml(bounded_text(folder.config)))
    now = _flat(settings)
    problems = [
        f"Expected {key}={now.get(key)} to be {then.get(key)} as when the run started. Its charges "
        f"are for those settings. Set {key}={then.get(key)}, or start a new run."
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if problems:
        raise ConfigurationError(problems)


def _flat(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that must stay as they are, under the keys of the command line."""
    flat: dict[str, Any] = {"model": settings.model}
    for section in dataclasses.fields(settings):
        if section.name in {"model", "performance"}:
            continue
        values = getattr(settings, section.name)
        for field in dataclasses.fields(values):
            value = getattr(values, field.name)
            flat[f"{section.name}.{field.name}"] = value.value if isinstance(value, Enum) else value
    return {key: value for key, value in flat.items() if key not in _MAY_DIFFER}
