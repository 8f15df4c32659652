"""The base model of a run with the head that the run began with, as its settings say."""

from pathlib import Path
from typing import Any

from dpft.accounting.bounded_files import bounded_text
from dpft.adapters.algebra.base import labels_digest
from dpft.recipes.base_models import chosen_base_model
from dpft.recipes.config.composition import settings_from_yaml
from dpft.recipes.config.schema import HeadName, TrainSettings
from dpft.recipes.tasks import Task, build_task
from dpft.taskvectors.adapter_file import adapter_config
from dpft.taskvectors.expression import EXPRESSION
from dpft.verification import Artefact

__all__ = ["base_of_run", "is_told_by_run", "labels_of_run"]

_CONFIG = "config.yaml"


def is_told_by_run(folder: Path) -> bool:
    """Return whether an adapter holds what has to be compared with its base, and a run tells that.

    Args:
        folder: Folder of an adapter or of a run.

    Privacy:
        Nothing, no data touched.
    """
    adapter = Artefact.of(folder).folder
    if (adapter / EXPRESSION).is_file() or not (folder / _CONFIG).is_file():
        return False
    config = adapter_config(adapter)
    biases = getattr(config, "bias", "none") != "none"
    return biases or bool(config.modules_to_save) or bool(getattr(config, "use_dora", False))


def base_of_run(folder: Path) -> Any:
    """Load the base model of a run as it was before the run.

    Args:
        folder: The run folder.

    Returns:
        The model, on the CPU.

    Raises:
        ConfigurationError: If the model cannot be loaded as the settings say.

    Privacy:
        Nothing, no data touched: the head comes from a public seed or from public texts.
    """
    from dpft.recipes.heads import start_from_descriptions
    from dpft.recipes.models import load

    settings, task = _settings(folder)
    name = chosen_base_model(settings.model, task)
    loaded = load(name, settings.architecture, task.labels, settings.run.seed)
    if settings.architecture.head is HeadName.DESCRIPTIONS:
        start_from_descriptions(loaded, task.descriptions)
    return loaded.model.cpu()


def labels_of_run(folder: Path) -> str | None:
    """Return the digest of the labels of a run, without loading a model.

    Args:
        folder: The run folder.

    Privacy:
        Nothing, no data touched: labels are public.
    """
    _, task = _settings(folder)
    return labels_digest(dict(enumerate(task.labels)), None)


def _settings(folder: Path) -> tuple[TrainSettings, Task]:
    settings = settings_from_yaml(bounded_text(folder / _CONFIG))
    return settings, build_task(settings.task)
