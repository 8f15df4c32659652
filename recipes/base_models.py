"""Turns the name of a base model into what transformers loads. No torch in here."""

from pathlib import Path

from dpft.errors import ConfigurationError
from dpft.recipes.decoder import DECODER_DIR
from dpft.recipes.embedded import MODEL_DIR
from dpft.recipes.tasks import Task
from dpft.recipes.tasks.embedded import EMBEDDED_MODEL
from dpft.recipes.tasks.embedded_table_to_text import EMBEDDED_DECODER
from dpft.recipes.tasks.traits import TaskKind, traits_of

__all__ = ["base_model_path", "chosen_base_model"]


def chosen_base_model(asked: str | None, task: Task) -> str:
    """Return the base model of a run: the one asked for, else the task's default.

    Args:
        asked: Folder, Hub name, "embedded", or None.
        task: The task.

    Returns:
        Its name, in words that may be published.

    Raises:
        ConfigurationError: If there is neither, or the folder does not exist.

    Privacy:
        Nothing, no data touched.
    """
    name = asked if asked is not None else task.default_model()
    if name is None:
        writes = traits_of(task).kind is TaskKind.TEXT
        small = EMBEDDED_DECODER if writes else EMBEDDED_MODEL
        raise ConfigurationError(
            f"Expected model to be given with task={task.name}. The task has no default. Set "
            f"model=FOLDER or model=HUB_NAME, or model={small}, the small one of the package."
        )
    base_model_path(name)
    return name


def base_model_path(name: str) -> str:
    """Return the folder or Hub name to load a base model from.

    Args:
        name: Folder, Hub name, "embedded" for the encoder in the package, or "embedded_decoder"
            for its decoder.

    Returns:
        The folder, or the Hub name as it is.

    Raises:
        ConfigurationError: If the name is a path without a model.

    Privacy:
        Nothing, no data touched.
    """
    if name == EMBEDDED_MODEL:
        return str(MODEL_DIR)
    if name == EMBEDDED_DECODER:
        return _embedded_decoder()
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise ConfigurationError(
            f"Expected model={name} to be a folder with a config.json, or a Hub name. There is "
            "nothing to load. Correct the path."
        )
    return name


def _embedded_decoder() -> str:
    if (DECODER_DIR / "model.safetensors").is_file():
        return str(DECODER_DIR)
    raise ConfigurationError(
        f"Expected model={EMBEDDED_DECODER} to be in the package. Its weights are missing. Make "
        f"them with python -m dpft.recipes.decoder.pretrain --output {DECODER_DIR}."
    )
