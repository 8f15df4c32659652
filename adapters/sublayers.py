"""Adapters around the sub-layers of a transformer: where they stand, and what they add up.

Written `h` for what a sub-layer returns after its dropout, `x` for the residual stream beside it,
`LN` for the frozen norm and `A` for the adapter, the placements are

    houlsby   post-LN: LN(h + A(h) + x)                  pre-LN: x + h + A(h)
    pfeiffer  post-LN: LN(h + A(u) + x), u = LN(h + x)   pre-LN: v + A(v), v = x + h

Bottleneck and Compacter share them. A target is whatever module returns `h` or `v`: a dropout, a
projection, a block. Only Pfeiffer's adapter on a post-LN model wraps the norm itself, as
`LN(z + A(LN(z)))` with z = h + x, so that no model's code is repeated here. Dropout comes before
the adapter everywhere, as in the original.
"""

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from transformers.activations import ACT2FN

from dpft.adapters.targets import sublayer_targets
from dpft.adapters.tuners import AdapterLayer, AdapterTuner
from dpft.errors import ConfigurationError

__all__ = [
    "Placement",
    "SublayerConfig",
    "SublayerLayer",
    "SublayerTuner",
    "check_activation",
    "with_targets",
]


class Placement(str, Enum):
    """Where the adapters of a transformer block stand."""

    HOULSBY = "houlsby"
    """After attention and after the feed-forward layer (Houlsby et al. 2019)."""
    PFEIFFER = "pfeiffer"
    """After the feed-forward layer only (Pfeiffer et al. 2021)."""
    FEED_FORWARD = "feed_forward"
    """As Houlsby's, after the feed-forward layer only (Mahabadi et al. 2021, Compacter++)."""


@dataclass
class SublayerConfig(PeftConfig):
    """What the methods around sub-layers have in common.

    Args:
        placement: Where adapters stand.
        reduction_factor: The model's width by the adapter's, at least 1, no unit; the quotient is
            rounded down.
        target_modules: Ends of module names, or one regular expression of whole names; None fills
            in the architecture's.
        exclude_modules: Modules to leave alone, written alike.
        layers_to_transform: Indices of the blocks to adapt, from 0; None adapts all.
        layers_pattern: Names of the lists of blocks that the indices count, as "h" or "layers";
            None takes the first number of a module's name.
        modules_to_save: Modules to train and save beside the adapter, such as a fresh head.
        bias: "none", as peft spells that biases of the model stay frozen.

    Raises:
        ConfigurationError: If a value is out of range.

    Privacy:
        Nothing, no data touched.
    """

    placement: Placement = Placement.HOULSBY
    reduction_factor: float = 16
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | set[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    bias: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # theirs
        self.placement = _placement(self.placement)
        _check_reduction(self.reduction_factor)
        if self.bias != "none":
            raise ConfigurationError(
                f"Expected bias={self.bias} to be none. This method trains no bias of the model. "
                "Leave bias out, or name layers in modules_to_save."
            )
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)

    def width(self, model_width: int) -> int:
        """Return the adapter's width inside, for the model's.

        Args:
            model_width: Width of the residual stream, at least 1.

        Returns:
            Width, at least 1.

        Raises:
            ConfigurationError: If nothing would be left.

        Privacy:
            Nothing, no data touched.
        """
        inner = int(model_width // self.reduction_factor)
        if inner < 1:
            raise ConfigurationError(
                f"Expected reduction_factor={self.reduction_factor} to be at most the width "
                f"{model_width} of the model. No unit would be left. Choose a smaller one."
            )
        return inner


class SublayerLayer(AdapterLayer):
    """A module of a transformer, to whose output an adapter adds."""

    other_param_names: tuple[str, ...] = ("placements",)

    def __init__(self, base_layer: nn.Module, width: int, place: torch.Tensor) -> None:
        super().__init__(base_layer, width, place)
        self.placements: dict[str, Placement] = {}

    @classmethod
    def check(cls, config: SublayerConfig, width: int) -> None:
        """Refuse a reduction that leaves no unit.

        Raises:
            ConfigurationError: If it does.

        Privacy:
            Nothing, no data touched.
        """
        config.width(width)

    def add(self, adapter_name: str, config: SublayerConfig) -> None:
        """Create an adapter and remember where it stands.

        Privacy:
            Nothing, no data touched.
        """
        super().add(adapter_name, config)
        self.placements[adapter_name] = config.placement

    @abstractmethod
    def delta(self, adapter_name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Return A(hidden), without the residual around it.

        Args:
            adapter_name: Name of the adapter.
            hidden: Input [B, ..., D], in the type of the adapter's parameters.

        Returns:
            What to add to the residual, of the same shape and type.

        Privacy:
            Row b depends on record b alone.
        """

    def adapted(self, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Return what the module does, with the adapter at its place.

        Args:
            adapter_name: Name of the active adapter.
            *args: As the module takes them.
            **kwargs: As the module takes them.

        Returns:
            What the module returns; of a tuple, only the first entry is changed.

        Privacy:
            Row b depends on record b alone, as far as the module sees to it.
        """
        output = self.base_layer(*args, **kwargs)
        if self._wraps_a_norm(adapter_name):
            (stream,) = (*args, *kwargs.values())
            return self.base_layer(stream + self._added(adapter_name, output))
        if isinstance(output, tuple):
            return (output[0] + self._added(adapter_name, output[0]), *output[1:])
        return output + self._added(adapter_name, output)

    def _added(self, adapter_name: str, hidden: torch.Tensor) -> torch.Tensor:
        dtype = self.adapter_dtype(adapter_name)
        return self.delta(adapter_name, self._cast_input_dtype(hidden, dtype)).to(hidden.dtype)

    def _wraps_a_norm(self, adapter_name: str) -> bool:
        is_norm = type(self.base_layer).__name__.endswith("Norm")  # DeBERTa brings its own
        return is_norm and self.placements[adapter_name] is Placement.PFEIFFER


class SublayerTuner(AdapterTuner):
    """Puts such layers at the places that the configuration chooses."""

    def _prepare_adapter_config(
        self,
        peft_config: Any,  # peft's class, by its signature
        model_config: dict[str, Any],
    ) -> SublayerConfig:
        return with_targets(peft_config, model_config["model_type"])


def check_activation(name: str) -> None:
    """Refuse the name of an activation that cannot stand inside an adapter.

    Args:
        name: As transformers spells it.

    Raises:
        ConfigurationError: If transformers has none of the name, or it has parameters.

    Privacy:
        Nothing, no data touched.
    """
    if name not in ACT2FN or any(True for _ in ACT2FN[name].parameters()):
        raise ConfigurationError(
            f"Expected non_linearity={name} to be an activation of transformers without "
            "parameters. Others would be trained beside the adapter, unsaved. Choose one of gelu, "
            "gelu_new, relu, swish, tanh."
        )


def with_targets(config: SublayerConfig, model_type: str) -> SublayerConfig:
    """Fill in the architecture's targets where none are given.

    Args:
        config: Configuration, changed in place.
        model_type: transformers' model type.

    Returns:
        The same configuration.

    Raises:
        ConfigurationError: If the architecture is unknown and no target is given.

    Privacy:
        Nothing, no data touched.
    """
    if config.target_modules is None:
        config.target_modules = sublayer_targets(model_type, config.placement.value)
    return config


def _placement(given: Placement | str) -> Placement:
    try:
        return Placement(given)
    except ValueError:
        raise ConfigurationError(
            f"Expected placement={given} to be one of {', '.join(each.value for each in Placement)}"
            ". Other places are not defined. Choose one of them."
        ) from None


def _check_reduction(factor: object) -> None:
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor >= 1:
        raise ConfigurationError(
            f"Expected reduction_factor={factor} >= 1. It divides the model's width. Choose a "
            "number such as 16."
        )
