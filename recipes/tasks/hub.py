"""Public benchmarks from the Hub, by `datasets`, or from its cache. No repository's code is run.

For public records alone: `datasets` leaves a copy of what it reads in its cache.
"""

import dataclasses
from pathlib import Path

from dpft.errors import ConfigurationError
from dpft.recipes.tasks.places import ASSETS_VARIABLE, hub_is_allowed
from dpft.recipes.tasks.task import Row

__all__ = ["HubPlace", "hub_problems", "hub_rows"]


@dataclasses.dataclass(frozen=True)
class HubPlace:
    """Where a benchmark stands on the Hub.

    Args:
        repository: Name of the repository, as in "nyu-mll/glue".
        configuration: Name of the part of it, None where there is one alone.
        revision: Branch; None for the main one. What the Hub converted to Parquet stands on a
            branch of its own.
        instead: Task of the package that needs no files.

    Privacy:
        Nothing, no data touched.
    """

    repository: str
    configuration: str | None = None
    revision: str | None = None
    instead: str = "embedded"


def hub_problems(place: HubPlace, task: str) -> list[str]:
    """Return why a benchmark cannot be read, as far as that is known without asking the Hub.

    Args:
        place: Where it stands.
        task: Name of the task.

    Privacy:
        Nothing, no data touched. `datasets` would take a folder of the repository's name for the
        repository, and its records for public ones
        (`test_a_folder_of_the_name_of_a_repository_is_not_the_hub`).
    """
    if Path(place.repository).exists():
        return [_taken(place, task)]
    if hub_is_allowed() or _is_cached(place):
        return []
    return [
        _nowhere(place, task, "The Hub is switched off by HF_HUB_OFFLINE, and its cache has none")
    ]


def hub_rows(place: HubPlace, split: str, task: str) -> list[Row]:
    """Read a split of a public benchmark.

    Args:
        place: Where it stands.
        split: Name of the split there.
        task: Name of the task.

    Returns:
        The rows, with all columns.

    Raises:
        ConfigurationError: If it cannot be read; the ways to give the records are named.

    Privacy:
        Public records. They are left in the cache of `datasets`.
    """
    from datasets import load_dataset

    if Path(place.repository).exists():
        raise ConfigurationError(_taken(place, task))
    try:
        loaded = load_dataset(
            place.repository, place.configuration, split=split, revision=place.revision
        )
        return list(loaded)
    except Exception as error:
        why = f"The Hub does not give it ({type(error).__name__})"
        raise ConfigurationError(_nowhere(place, task, why)) from error


def _is_cached(place: HubPlace) -> bool:
    """Return whether `datasets` has read the benchmark before, and kept it."""
    from datasets import load_dataset_builder

    try:
        load_dataset_builder(place.repository, place.configuration, revision=place.revision)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _taken(place: HubPlace, task: str) -> str:
    return (
        f"Expected no folder {place.repository} here with task={task}. It would be read instead of "
        "the Hub's, and whatever lies in it would count as public. Set task.path to it, or start "
        "from another folder."
    )


def _nowhere(place: HubPlace, task: str, why: str) -> str:
    return (
        f"Expected task.path or {ASSETS_VARIABLE} to say where {task} is, or the Hub to give "
        f"{place.repository}. {why}. Set task.path to a folder with train.parquet and "
        f"validation.parquet, or try task={place.instead}."
    )
