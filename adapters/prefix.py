"""Prefix tuning (Li and Liang 2021), as peft implements it: n trainable keys and values a layer.

An encoder-decoder gets its prefix before the decoder's self-attention and, with the same values,
before its cross-attention; `num_transformer_submodules=1` leaves the latter out.
"""

from typing import Any

from peft import PrefixTuningConfig

from dpft.adapters.options import fill
from dpft.adapters.prompt import refuse_without_task
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.targets import head_modules

__all__ = ["configure"]


def configure(model_type: str, task_type: str | None, **options: Any) -> PrefixTuningConfig:
    """Configure prefix tuning with 10 positions, without reparametrisation.

    Args:
        model_type: transformers' model type; every architecture has keys and values.
        task_type: peft's task type.
        **options: Fields of `peft.PrefixTuningConfig`; they win over what is filled in.
            `prefix_projection=True` trains a network that makes the prefix.

    Returns:
        peft's configuration.

    Raises:
        ConfigurationError: If there is no task type, or an option is unknown.

    Privacy:
        Nothing, no data touched.

    References:
        Li and Liang 2021 (2101.00190), section 4.2; section 7.2 for 10 positions.
    """
    refuse_without_task(AdapterName.PREFIX.value, task_type)
    filled: dict[str, Any] = {
        "task_type": task_type,
        "num_virtual_tokens": 10,
        "modules_to_save": head_modules(model_type, task_type),
    }
    return fill(PrefixTuningConfig, filled, options)


register(AdapterName.PREFIX.value, configure)
