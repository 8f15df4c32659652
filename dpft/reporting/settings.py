"""Which settings of a run a report shows: no place of a file, no data set but by its name."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

__all__ = ["public_settings"]

_SECTIONS = ("adapter", "architecture", "optim", "privacy", "performance", "generation")
_LEFT_OUT = {("privacy", "ledger")}
_OF_RUN = ("seed", "checkpoint_every")
_OF_TASK = ("name", "labels")
_COLUMN = "_column"
_FREE_TEXTS = {"template", "label_words", "labels"}  # may hold a slash and be no place


def public_settings(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the settings that are shown, derived ones (null) left out.

    Args:
        settings: Content of config.yaml.

    Returns:
        Dotted names and values. Of what may be a place, only its last part; of the task, only its
        name, its labels and its columns, so that the data appear by their given name alone.

    Privacy:
        Settings are public; the name of a user or a folder need not be
        (`test_settings_show_no_place_of_a_file`).

    Example:
        >>> public_settings(
        ...     {"model": "/home/me/models/tiny", "task": {"name": "sst2", "path": "/x"}}
        ... )
        (('model', 'tiny'), ('task.name', 'sst2'))
    """
    return tuple(
        (name, _shown(name, value))
        for name, value in _chosen(settings)
        if value is not None and not isinstance(value, Mapping)
    )


def _chosen(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "model", settings.get("model")
    for name, value in (settings.get("task") or {}).items():
        if name in _OF_TASK or name.endswith(_COLUMN):
            yield f"task.{name}", value
    for section in _SECTIONS:
        for name, value in (settings.get(section) or {}).items():
            if (section, name) not in _LEFT_OUT:
                yield f"{section}.{name}", value
    for name in _OF_RUN:
        yield f"run.{name}", (settings.get("run") or {}).get(name)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_shown(name, each) for each in value)
    if isinstance(value, str) and name.rpartition(".")[2] not in _FREE_TEXTS:
        return PurePosixPath(PureWindowsPath(value).as_posix()).name or value
    return f"{value:g}" if isinstance(value, float) else str(value)
