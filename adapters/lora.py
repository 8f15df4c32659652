"""LoRA (Hu et al. 2021), as peft implements it, with our choices of targets and no dropout.

rsLoRA (`use_rslora=True`) and DoRA (`use_dora=True`) are options of the same configuration.
"""

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig

from dpft.adapters.options import fill
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.targets import attention_targets, head_modules, stores_weights_transposed

__all__ = ["configure", "filled_in"]


def configure(model_type: str, task_type: str | None, **options: Any) -> LoraConfig:
    """Configure LoRA on the query and value projections.

    y = W x + s B A x with A [r, inputs], B [outputs, r] from 0, and s = lora_alpha / r; rsLoRA
    takes s = lora_alpha / sqrt(r), DoRA also trains the norm of each output's weights.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: Fields of `peft.LoraConfig`; they win over what is filled in.

    Returns:
        peft's configuration, with `lora_dropout=0` unless asked for otherwise.

    Raises:
        ConfigurationError: If the architecture is unknown and `target_modules` is not given, an
            option is unknown, or peft refuses a value.

    Privacy:
        Nothing, no data touched.

    References:
        Hu et al. 2021 (2106.09685), equation 3; targets as in section 4.2. Kalajdzievski 2023
        (2312.03732), equation 4. Liu et al. 2024 (2402.09353), equation 5.
    """
    return fill(LoraConfig, filled_in(model_type, task_type, options), options)


def filled_in(model_type: str, task_type: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `peft.LoraConfig` that depend on the model.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        options: What was given; with `target_modules`, any architecture will do.

    Returns:
        Values by field name.

    Raises:
        ConfigurationError: If the architecture is unknown and `target_modules` is not given.

    Privacy:
        Nothing, no data touched.
    """
    by_hand = options.get("target_modules") is not None
    return {
        "task_type": task_type,
        "target_modules": None if by_hand else list(attention_targets(model_type)),
        "lora_dropout": 0.0,
        "fan_in_fan_out": stores_weights_transposed(model_type),
        "modules_to_save": head_modules(model_type, task_type),
    }


register(AdapterName.LORA.value, configure)
