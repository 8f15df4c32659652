"""LoRA (Hu et al. 2021), as peft implements it, with our choices of targets and no dropout."""

from typing import Any

from peft import LoraConfig

from dpft.adapters.registry import AdapterName, register
from dpft.adapters.targets import attention_targets, head_modules, stores_weights_transposed

__all__ = ["configure"]


def configure(model_type: str, task_type: str | None, **options: Any) -> LoraConfig:
    """Configure LoRA on the query and value projections.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: Fields of `peft.LoraConfig`; they win over what is filled in.

    Returns:
        peft's configuration, with `lora_dropout=0` unless asked for otherwise.

    Raises:
        ConfigurationError: If the architecture is unknown and `target_modules` is not given.

    Privacy:
        Nothing, no data touched.

    References:
        Hu et al. 2021 (2106.09685), equation 3; targets as in section 4.2.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "target_modules" not in given:
        given["target_modules"] = list(attention_targets(model_type))
    filled: dict[str, Any] = {
        "task_type": task_type,
        "lora_dropout": 0.0,
        "fan_in_fan_out": stores_weights_transposed(model_type),
        "modules_to_save": head_modules(model_type, task_type),
    }
    return LoraConfig(**(filled | given))


register(AdapterName.LORA.value, configure)
