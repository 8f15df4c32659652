"""What full fine-tuning cannot honour, found before a model is loaded. No torch in here."""

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import stored_config
from dpft.recipes.config.schema import TrainSettings

__all__ = ["full_fine_tuning_problems", "refuse_quantised_base"]


def full_fine_tuning_problems(settings: TrainSettings) -> list[str]:
    """Return which settings contradict `adapter=full`.

    Args:
        settings: What was asked for.

    Privacy:
        Nothing, no data touched.
    """
    if not settings.trains_whole_model or settings.architecture.train_head:
        return []
    problem = (
        "Expected architecture.train_head=False without adapter=full. Every weight is trained, "
        "that of the head too. Set architecture.train_head=true, or choose an adapter."
    )
    return [problem]


def refuse_quantised_base(settings: TrainSettings, base_model: str) -> None:
    """Raise if every weight is to be trained and the base model's are quantised.

    Args:
        settings: What was asked for.
        base_model: Name of the base model; one that cannot be found is left to its loading.

    Raises:
        ConfigurationError: If they are: rounded weights take no gradient, and what was trained
            would be the rest.

    Privacy:
        Nothing, no data touched (`test_a_quantised_base_is_refused_before_it_is_loaded`).
    """
    if not settings.trains_whole_model:
        return
    try:
        config = stored_config(base_model)
    except (OSError, ValueError):
        return
    if getattr(config, "quantization_config", None) is not None:
        raise ConfigurationError(
            f"Expected model={base_model} not to be quantised with adapter=full. Rounded weights "
            "take no gradient, so that not all would be trained. Name the model as it was before, "
            "or choose an adapter."
        )
