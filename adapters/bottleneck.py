"""Bottleneck adapters (Houlsby et al. 2019, Pfeiffer et al. 2021), as a method of peft.

`A(u) = W_up act(W_down u + b_down) + b_up`, at the places of `dpft.adapters.sublayers`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

from dpft.adapters.options import fill
from dpft.adapters.registration import MethodType, register_method
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.sublayers import (
    Placement,
    SublayerConfig,
    SublayerLayer,
    SublayerTuner,
    check_activation,
    with_targets,
)
from dpft.adapters.targets import head_modules
from dpft.errors import ConfigurationError

__all__ = ["TYPE", "BottleneckConfig", "BottleneckLayer", "BottleneckModel", "configure"]

TYPE = MethodType("DPFT_BOTTLENECK")
"""Key of the method in peft's tables and in `adapter_config.json`."""

_PREFIX = "dpft_bottleneck_"
_NON_LINEARITY = {
    Placement.HOULSBY: "swish",
    Placement.PFEIFFER: "relu",
    Placement.FEED_FORWARD: "swish",
}


@dataclass
class BottleneckConfig(SublayerConfig):
    """Configuration of bottleneck adapters.

    Args:
        non_linearity: Name of an activation of transformers; None takes "swish" for Houlsby's
            placement and "relu" for Pfeiffer's.
        init_std: Standard deviation of the initial weights, at least 0; biases begin at 0.
        zero_init_up: Begin with `W_up = 0`, so that the adapted model begins as the model. `W_down`
            then has no gradient in the first step.
        ln_before: Normalise what enters the adapter, by a LayerNorm of its own.
        ln_after: Normalise what leaves it, before the residual is added.

    Raises:
        ConfigurationError: If a value is out of range.

    Privacy:
        Nothing, no data touched.
    """

    non_linearity: str | None = None
    init_std: float = 0.02
    zero_init_up: bool = False
    ln_before: bool = False
    ln_after: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = TYPE
        if self.non_linearity is None:
            self.non_linearity = _NON_LINEARITY[self.placement]
        check_activation(self.non_linearity)
        if not 0 <= self.init_std < float("inf"):
            raise ConfigurationError(
                f"Expected init_std={self.init_std} >= 0 and finite. It is a standard deviation. "
                "Choose a small number such as 0.02."
            )


class BottleneckLayer(SublayerLayer):
    """A module with a narrow two-layer network beside its output.

    References:
        Houlsby et al. 2019 (1902.00751), section 2.1; Pfeiffer et al. 2021 (2005.00247), section
        3.2.1. The placements agree with AdapterHub's `double_seq_bn` and `seq_bn`.
    """

    adapter_layer_names = tuple(
        _PREFIX + part for part in ("down", "up", "norm_before", "norm_after")
    )
    other_param_names = (*SublayerLayer.other_param_names, "activations")
    dpft_bottleneck_down: nn.ModuleDict
    dpft_bottleneck_up: nn.ModuleDict
    dpft_bottleneck_norm_before: nn.ModuleDict
    dpft_bottleneck_norm_after: nn.ModuleDict

    def __init__(self, base_layer: nn.Module, width: int, place: torch.Tensor) -> None:
        super().__init__(base_layer, width, place)
        self.activations: dict[str, nn.Module] = {}  # plain: they have no parameters

    def create(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Put fresh projections, and norms if asked for, into the containers.

        Privacy:
            Nothing, no data touched.
        """
        inner = config.width(self.width)
        up_std = 0.0 if config.zero_init_up else config.init_std
        self.dpft_bottleneck_down[adapter_name] = _linear(self.width, inner, config.init_std)
        self.dpft_bottleneck_up[adapter_name] = _linear(inner, self.width, up_std)
        if config.ln_before:
            self.dpft_bottleneck_norm_before[adapter_name] = nn.LayerNorm(self.width)
        if config.ln_after:
            self.dpft_bottleneck_norm_after[adapter_name] = nn.LayerNorm(self.width)
        self.activations[adapter_name] = ACT2FN[config.non_linearity]

    def delta(self, adapter_name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Return A(hidden).

        Privacy:
            Row b depends on record b alone (`tests/adapters/test_gradients.py`).
        """
        if adapter_name in self.dpft_bottleneck_norm_before:
            hidden = self.dpft_bottleneck_norm_before[adapter_name](hidden)
        inner = self.dpft_bottleneck_down[adapter_name](hidden)
        outer: torch.Tensor = self.dpft_bottleneck_up[adapter_name](
            self.activations[adapter_name](inner)
        )
        if adapter_name in self.dpft_bottleneck_norm_after:
            outer = self.dpft_bottleneck_norm_after[adapter_name](outer)
        return outer


class BottleneckModel(SublayerTuner):
    """Puts bottleneck adapters into a model; peft calls it."""

    prefix = _PREFIX
    tuner_layer_cls = BottleneckLayer


def configure(model_type: str, task_type: str | None, **options: Any) -> BottleneckConfig:
    """Configure bottleneck adapters.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: Fields of `BottleneckConfig`; they win over what is filled in.

    Returns:
        The configuration, with the architecture's targets.

    Raises:
        ConfigurationError: If a value is out of range, or the architecture is unknown and
            `target_modules` is not given.

    Privacy:
        Nothing, no data touched.

    References:
        Houlsby et al. 2019 (1902.00751); Pfeiffer et al. 2021 (2005.00247).
    """
    filled = {"task_type": task_type, "modules_to_save": head_modules(model_type, task_type)}
    config = fill(BottleneckConfig, filled, options)
    with_targets(config, model_type)
    return config


def _linear(inputs: int, outputs: int, std: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


register_method(TYPE, BottleneckConfig, BottleneckModel)
register(AdapterName.BOTTLENECK.value, configure)
