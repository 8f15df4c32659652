"""Turns the name of a base model into what transformers loads. No torch in here."""

import json
from pathlib import Path
from typing import Any

from dpft.accounting.bounded_files import bounded_text
from dpft.errors import ConfigurationError
from dpft.recipes.decoder import DECODER_DIR
from dpft.recipes.embedded import MODEL_DIR
from dpft.recipes.tasks import Task
from dpft.recipes.tasks.embedded import EMBEDDED_MODEL
from dpft.recipes.tasks.embedded_table_to_text import EMBEDDED_DECODER
from dpft.recipes.tasks.traits import TaskKind, traits_of

__all__ = [
    "base_model_path",
    "chosen_base_model",
    "refuse_unsafe_model",
    "stored_config",
    "stored_tokenizer",
]

_INDEX = "model.safetensors.index.json"


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
        ConfigurationError: If the name is a path without a model, or of one whose files name
            others elsewhere or would run code.

    Privacy:
        Nothing, no data touched.
    """
    if name == EMBEDDED_MODEL:
        return str(MODEL_DIR)
    if name == EMBEDDED_DECODER:
        return _embedded_decoder()
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        refuse_unsafe_model(path)
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise ConfigurationError(
            f"Expected model={name} to be a folder with a config.json, or a Hub name. There is "
            "nothing to load. Correct the path."
        )
    return name


def stored_config(base_model: str) -> Any:
    """Read the configuration of a base model; no code of the model's is run.

    Args:
        base_model: Folder, Hub name, or that of a model in the package.

    Returns:
        The configuration of transformers.

    Raises:
        ConfigurationError: If transformers cannot read it.

    Privacy:
        Nothing, no data touched.
    """
    from transformers import AutoConfig

    path = base_model_path(base_model)
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # a damaged file raises anything
        raise _unreadable(base_model, "a configuration", error) from error


def stored_tokenizer(base_model: str) -> Any:
    """Read the tokenizer of a base model; no code of the model's is run.

    Args:
        base_model: Folder, Hub name, or that of a model in the package.

    Returns:
        The tokenizer of transformers.

    Raises:
        ConfigurationError: If transformers cannot read it.

    Privacy:
        Nothing, no data touched.
    """
    from transformers import AutoTokenizer

    path = base_model_path(base_model)
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # tokenizers knows no narrower one
        raise _unreadable(base_model, "a tokenizer", error) from error


def _unreadable(base_model: str, what: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"Expected model={base_model} to have {what} that transformers reads. It says: "
        f"{type(error).__name__}: {error}. Correct the name, or take the folder as it was saved."
    )


def refuse_unsafe_model(folder: Path) -> None:
    """Refuse a model folder by which transformers would open other files, or run what is in one.

    Args:
        folder: A local folder with a config.json.

    Raises:
        ConfigurationError: If the configuration or the index is damaged, an index names a file
            that is not a safetensors file beside it, an adapter names another base model, or the
            weights are there in formats alone that run code when they are read.

    Privacy:
        Nothing, no data touched (`tests/recipes/test_base_models.py`).
    """
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json", _INDEX):
        fields = _fields_of(folder / name)
        shards = fields.get("weight_map", {}) if name == _INDEX else {}
        if not isinstance(shards, dict) or not all(map(_is_beside, shards.values())):
            raise _unsafe(folder / name, "names files that are not safetensors files beside it")
        if fields.get("base_model_name_or_path") is not None:
            raise _unsafe(folder / name, "names another model, which would be loaded instead")
    packed = [path.name for path in folder.glob("pytorch_model*.bin")]
    if packed and not any(folder.glob("*.safetensors")):
        raise _unsafe(folder / packed[0], "may run code when it is read; there are no safetensors")


def _fields_of(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    text = bounded_text(path)
    try:
        fields = json.loads(text)  # not as strictly as our own files: lengths of 1e30 are common
    except (ValueError, RecursionError) as error:
        raise _unsafe(path, "is no JSON") from error
    if not isinstance(fields, dict):
        raise _unsafe(path, "holds no object")
    return fields


def _is_beside(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def _unsafe(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Expected {path.parent} to be a model whose files can be read safely: {path.name} {what}. "
        "A model of somebody else could reach other files, or run code. Save it anew with "
        "save_pretrained()."
    )


def _embedded_decoder() -> str:
    if (DECODER_DIR / "model.safetensors").is_file():
        return str(DECODER_DIR)
    raise ConfigurationError(
        f"Expected model={EMBEDDED_DECODER} to be in the package. Its weights are missing. Make "
        f"them with python -m dpft.recipes.decoder.pretrain --output {DECODER_DIR}."
    )
