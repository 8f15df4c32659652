"""A frozen module with named adapters of which at most one is active, as peft switches them.

What a forward pass does with the active one is left to those who derive from it.
"""

from typing import Any, ClassVar

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from dpft.errors import ConfigurationError

__all__ = ["SwitchedLayer", "merge_refused", "refuse_several"]


class SwitchedLayer(nn.Module, BaseTunerLayer):
    """A frozen module beside its adapters, at most one of them active.

    A method sets `adapter_layer_names` to the names of its containers, each of them beginning with
    its prefix, and `container` to their class. What it keeps by adapter in plain dictionaries, it
    names in `other_param_names`.

    Args:
        base_layer: Module to adapt.
        width: Size of the last dimension of what it returns.
        place: A tensor on the device and in the type that new adapters take. Modules without a
            parameter, as dropout, have no other way to tell.
    """

    container: ClassVar[type[nn.ModuleDict] | type[nn.ParameterDict]] = nn.ModuleDict
    _place: torch.Tensor

    def __init__(self, base_layer: nn.Module, width: int, place: torch.Tensor) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.width = width
        self.merged_adapters: list[str] = []  # stays empty; the class would share its own
        self._active_adapter: list[str] = []
        empty = torch.empty(0, device=place.device, dtype=place.dtype)
        self.register_buffer("_place", empty, persistent=False)  # moves with the model
        for name in self.adapter_layer_names:
            setattr(self, name, self.container())

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - as peft calls it
        """Make one adapter active and trainable, or none.

        Raises:
            ConfigurationError: If several are given.

        Privacy:
            Nothing, no data touched.
        """
        refuse_several(adapter_names)
        super().set_adapter(adapter_names, inference_mode=inference_mode)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:  # noqa: ARG002, FBT001, FBT002 - as peft calls it
        """Refuse: the adapter is no change of weights.

        Raises:
            ConfigurationError: Always.

        Privacy:
            Nothing, no data touched.
        """
        raise ConfigurationError(merge_refused(type(self).__name__))

    def unmerge(self) -> None:
        """Do nothing, as nothing was merged.

        Privacy:
            Nothing, no data touched.
        """

    def _get_base_layer_device_and_dtype(
        self,
        base_layer: nn.Module,  # noqa: ARG002 - peft looks for its weight, which it may not have
    ) -> tuple[torch.device, torch.dtype]:
        return self._place.device, self._place.dtype

    def __getattr__(self, name: str) -> Any:
        # Models ask their blocks for attributes. Double underscores belong to copy and pickle,
        # which also meet the object before it has a base layer.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer" or name.startswith("__"):
                raise
            return getattr(self.base_layer, name)


def refuse_several(adapter_names: str | list[str]) -> None:
    """Refuse more than one active adapter.

    Args:
        adapter_names: One name, or several.

    Raises:
        ConfigurationError: If there are several.

    Privacy:
        Nothing, no data touched.
    """
    if not isinstance(adapter_names, str) and len(adapter_names) > 1:
        raise ConfigurationError(
            f"Expected active adapters={', '.join(adapter_names)} to be one. Stacked adapters are "
            "not defined for this method. Name one of them."
        )


def merge_refused(name: str) -> str:
    """Return why an adapter cannot be merged into the weights.

    Args:
        name: Name of the class that refuses.

    Privacy:
        Nothing, no data touched.
    """
    return (
        f"Expected no merge of {name} into the weights. The adapter is no change of weights, so "
        "that no merged model equals the adapted one. Keep the adapter, or take it off by unload()."
    )
