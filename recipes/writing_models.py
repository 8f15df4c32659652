"""Whether a base model can write texts, before it is loaded."""

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import stored_config
from dpft.recipes.tasks import Task
from dpft.recipes.tasks.traits import TaskKind, traits_of

__all__ = ["refuse_encoder"]


def refuse_encoder(base_model: str, task: Task) -> None:
    """Raise if texts are to be written by a model that reads both ways.

    transformers loads an encoder as a language model all the same; each token would then see the
    ones that it is to predict, and what is learnt would write nothing.

    Args:
        base_model: Name of the base model, whose configuration is there.
        task: The task; only one that writes texts asks for more.

    Raises:
        ConfigurationError: If the model is an encoder.

    Privacy:
        Nothing, no data touched.
    """
    if traits_of(task).kind is not TaskKind.TEXT:
        return
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    config = stored_config(base_model)
    fills_in = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if fills_in and not (config.is_encoder_decoder or getattr(config, "is_decoder", False)):
        raise ConfigurationError(
            f"Expected model={base_model} to write texts with task={task.name}. It is an encoder: "
            "its tokens see those that follow, so that nothing would be learnt. Set model to a "
            "decoder, as GPT-2 or Llama, or to an encoder-decoder, as T5."
        )
