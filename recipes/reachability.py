"""Whether a base model of the Hub can be had, before anything is written. No torch in here."""

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import base_model_path
from dpft.recipes.tasks.places import hub_is_allowed

__all__ = ["refuse_unreachable"]


def refuse_unreachable(base_model: str) -> None:
    """Raise if a base model is neither in a folder nor in the Hub's cache, and cannot be fetched.

    Args:
        base_model: Name of the base model.

    Raises:
        ConfigurationError: If its configuration cannot be had.

    Privacy:
        Nothing, no data touched; where the Hub is asked it learns the name of the model.
    """
    path = base_model_path(base_model)
    from transformers.utils.hub import cached_file

    try:
        cached_file(path, "config.json")
    except OSError as error:
        why = "cannot be reached, or has no such model" if hub_is_allowed() else "is switched off"
        raise ConfigurationError(
            f"Expected model={base_model} to be a folder, or a model in the Hub's cache: there is "
            f"no network, or no such model. The Hub {why}. Correct the name, set model=FOLDER, or "
            f"run hf download {base_model} where there is a network."
        ) from error
