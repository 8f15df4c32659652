"""LoRA and its relatives as changes of weights: rsLoRA, FFA-LoRA, biases, rank and alpha patterns.

`dW = s B A` with s = lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA. The scaling is put into
the first factor when an adapter is read, so that one that is written has scaling 1: lora_alpha = r
and use_rslora False. What the configuration asks for beyond that is refused, never dropped.
"""

import dataclasses
import math
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key

from dpft.adapters.algebra.biases import read_biases
from dpft.adapters.algebra.delta import Family, Part, Source
from dpft.adapters.algebra.dense import Dense
from dpft.adapters.algebra.dora import dora_change
from dpft.adapters.algebra.layout import Layout
from dpft.adapters.algebra.linear import weighted_sum
from dpft.adapters.algebra.low_rank import LowRank
from dpft.adapters.algebra.names import EMBEDDING_NAMES, LINEAR_NAMES, refuse_leftover
from dpft.errors import ConfigurationError

__all__ = ["read_lora", "refuse_options"]

_MAGNITUDE, _BIAS = "lora_magnitude_vector", "lora_B.bias"
# Fields that are read here, or that leave the meaning of the tensors alone.
_UNDERSTOOD = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "exclude_modules"),
    *("fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "lora_alpha"),
    *("layers_to_transform", "lora_bias", "lora_dropout", "modules_to_save", "peft_type"),
    *("peft_version", "r", "rank_pattern", "revision", "runtime_config", "seed"),
    *("target_modules", "task_type", "use_dora", "use_rslora"),
}
# Other starts take a part of the weights out of the base model, so that A and B hold more than
# what training added.
_STARTS = (True, False, "gaussian", "orthogonal", "eva")


def read_lora(source: Source, names: dict[str, torch.Tensor]) -> tuple[Family, dict[str, Part]]:
    """Read an adapter of LoRA.

    Args:
        source: What peft saved.
        names: The adapter's tensors under the names of the model; emptied of what was read.

    Returns:
        The family and the parts, at full names of weights and biases.

    Raises:
        ConfigurationError: If an option is not understood, or a tensor or a base is missing.

    Privacy:
        Nothing, no data touched.

    References:
        Hu et al. 2021 (2106.09685), equation 3; Kalajdzievski 2023 (2312.03732), equation 4.
    """
    refuse_options(source.config)
    parts: dict[str, Part] = {}
    for first, second in (LINEAR_NAMES, EMBEDDING_NAMES):
        for module in _modules(names, first):
            factors = (names.pop(f"{module}.{second}"), names.pop(f"{module}.{first}"))
            embedded = first == EMBEDDING_NAMES[0]
            parts |= _module_parts(
                source, module, _scaled(source, module, factors, embedded=embedded), names
            )
    if source.config.bias != "none":
        parts |= read_biases(source, names)
    refuse_leftover(names)
    return Family.WEIGHTS, parts


def refuse_options(config: Any) -> None:
    """Refuse what a configuration asks for beyond what is read.

    Args:
        config: Of LoRA.

    Raises:
        ConfigurationError: Naming the options.

    Privacy:
        Nothing, no data touched.
    """
    default = LoraConfig()
    others = [
        f"{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.name not in _UNDERSTOOD
        and getattr(config, field.name) != getattr(default, field.name, None)
    ]
    if config.init_lora_weights not in _STARTS:
        others.append(f"init_lora_weights={config.init_lora_weights}")
    if others:
        raise ConfigurationError(
            f"Expected {', '.join(others)} to be left at peft's default. What the adapter then "
            "adds to the weights is not read exactly. Convert the adapter to a plain LoRA "
            "first, by save_pretrained(path_initial_model_for_weight_conversion=...)."
        )


def _modules(names: dict[str, torch.Tensor], suffix: str) -> list[str]:
    return [name.removesuffix(f".{suffix}") for name in names if name.endswith(f".{suffix}")]


def _scaled(
    source: Source, module: str, factors: tuple[torch.Tensor, torch.Tensor], *, embedded: bool
) -> LowRank:
    left, right = factors
    if left.dim() != 2:
        raise ConfigurationError(
            f"Expected target={module} to be a linear layer or an embedding. The sum of "
            "convolutions by concatenation is not verified. Choose other target_modules."
        )
    scaling = _scaling(source.config, module, len(right))
    layout = Layout.CONV1D if source.config.fan_in_fan_out else Layout.LINEAR
    layout = Layout.EMBEDDING if embedded else layout
    return LowRank(weighted_sum([(scaling, left)]), right, layout)


def _scaling(config: Any, module: str, rank: int) -> float:
    stated = _by_pattern(config.rank_pattern, module, config.r)
    if stated != rank:
        raise ConfigurationError(
            f"Expected r={stated} of {module} to be the rank {rank} of its tensors. The scaling "
            "follows from it. Take configuration and tensors of one adapter."
        )
    alpha = _by_pattern(config.alpha_pattern, module, config.lora_alpha)
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _by_pattern(patterns: dict[str, Any], module: str, default: float) -> float:
    value: float = patterns.get(get_pattern_key(list(patterns), module), default)
    return value


def _module_parts(
    source: Source, module: str, change: LowRank, names: dict[str, torch.Tensor]
) -> dict[str, Part]:
    weight, bias = f"{module}.weight", f"{module}.bias"
    magnitude = names.pop(f"{module}.{_MAGNITUDE}", None)
    if magnitude is not None:
        return {weight: dora_change(source.base, weight, change, magnitude)}
    if source.config.use_dora:
        raise ConfigurationError(
            f"Expected {module}.{_MAGNITUDE} in the file of a DoRA. Without it the weights are not "
            "known. Take the whole file."
        )
    added = names.pop(f"{module}.{_BIAS}", None)
    if added is None:
        return {weight: change}
    scaling = _scaling(source.config, module, change.rank)  # peft scales the bias of B as well
    return {weight: change, bias: Dense(weighted_sum([(scaling, added)]))}
