"""The folder of the model that full fine-tuning leaves: completed, and loaded again."""

import dataclasses
from pathlib import Path

from dpft.recipes.base_models import stored_tokenizer
from dpft.recipes.models import LoadedModel, load_for
from dpft.recipes.preparation import Prepared

__all__ = ["load_whole_model", "save_tokenizer"]


def save_tokenizer(folder: Path, prepared: Prepared) -> None:
    """Put the base model's tokenizer beside a trained model, so that its folder is a base model.

    Args:
        folder: Folder of the trained weights; one of an adapter is left as it is.
        prepared: The run.

    Privacy:
        Nothing, no data touched: the vocabulary is the base model's.
    """
    if not prepared.settings.trains_whole_model:
        return
    stored_tokenizer(prepared.base_model).save_pretrained(folder)


def load_whole_model(prepared: Prepared, folder: Path) -> LoadedModel:
    """Load the model that a run with `adapter=full` left behind.

    Args:
        prepared: Settings of the run.
        folder: Folder of its weights.

    Returns:
        The trained model, its tokenizer and encoding.

    Raises:
        ConfigurationError: If transformers cannot load it.

    Privacy:
        Nothing, no data touched: the model is released.
    """
    settings = prepared.settings
    stored = dataclasses.replace(settings.architecture, pretrained=True)  # its weights are there
    return load_for(str(folder), stored, prepared.task, settings.run.seed)
