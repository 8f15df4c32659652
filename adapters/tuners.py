"""What our own peft methods share: a frozen module with adapters, and the tuner that places it.

A method derives its layer from `AdapterLayer` and its tuner from `AdapterTuner`; peft asks for
classes here. What is placed around the sub-layers of a transformer finds more in
`dpft.adapters.sublayers`. Nothing in here touches data or knows of privacy.

Containers are flat, `<prefix>down = {adapter name: layer}`: peft then finds, saves, loads, switches
and deletes every parameter by its own rules, and no adapter's name enters a file.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, check_target_module_exists
from torch import nn

from dpft.adapters.switched_layer import SwitchedLayer, merge_refused, refuse_several
from dpft.errors import ConfigurationError

__all__ = ["AdapterLayer", "AdapterTuner"]

_WIDTHS = ("out_features", "nf", "embedding_dim")  # of Linear, transformers' Conv1D, Embedding


class AdapterLayer(SwitchedLayer):
    """A frozen module with adapters around it; a method writes `create` and `adapted`."""

    @classmethod
    def check(cls, config: Any, width: int) -> None:
        """Refuse what cannot be built at this width, before any module is replaced.

        Args:
            config: The method's configuration.
            width: Size of the last dimension of what a target returns.

        Raises:
            ConfigurationError: If the configuration does not fit the width.

        Privacy:
            Nothing, no data touched.
        """

    @abstractmethod
    def create(self, adapter_name: str, config: Any) -> None:
        """Put fresh parameters of an adapter into the containers.

        They may lie on the meta device, so that they are initialised by `torch.nn.init`, in place,
        and never moved in here.

        Args:
            adapter_name: Name of the adapter.
            config: The method's configuration.

        Privacy:
            Nothing, no data touched.
        """

    @abstractmethod
    def adapted(self, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Return what the module would, with one adapter.

        Args:
            adapter_name: Name of the active adapter.
            *args: As the module takes them.
            **kwargs: As the module takes them.

        Returns:
            What the module returns, changed.

        Privacy:
            Each record may change its own row only: no statistics over the batch, no writing.
        """

    def add(self, adapter_name: str, config: Any) -> None:
        """Create an adapter where the wrapped module lies; it is not made active.

        Args:
            adapter_name: Name of the adapter.
            config: The method's configuration.

        Raises:
            ConfigurationError: If the configuration does not fit the width.

        Privacy:
            Nothing, no data touched.
        """
        self.check(config, self.width)
        self.create(adapter_name, config)
        self._move_adapter_to_device_of_base_layer(adapter_name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module does, with the active adapter if there is one.

        Privacy:
            As `adapted`.
        """
        names = [] if self.disable_adapters else self.active_adapters
        for name in names:
            if name in self._get_available_adapters():
                return self.adapted(name, *args, **kwargs)
        return self.base_layer(*args, **kwargs)

    def adapter_dtype(self, adapter_name: str) -> torch.dtype:
        """Return the type of an adapter's parameters, to which its input is cast.

        Privacy:
            Nothing, no data touched.
        """
        held = getattr(self, self.adapter_layer_names[0])[adapter_name]
        tensor = held if isinstance(held, torch.Tensor) else next(held.parameters())
        return tensor.dtype


class AdapterTuner(BaseTuner):
    """Puts layers of one method around the targets of a model, and takes them off.

    A method sets `prefix` and `tuner_layer_cls`, and fills in targets that were not given in
    `_prepare_adapter_config`. One that places no layer by itself needs no `AdapterLayer`.
    """

    tuner_layer_cls: type[SwitchedLayer]

    @property
    def _placed_class(self) -> type[AdapterLayer]:
        assert issubclass(self.tuner_layer_cls, AdapterLayer), "this method places no layers"
        return self.tuner_layer_cls

    def _prepare_model(self, peft_config: PeftConfig, model: nn.Module) -> None:
        # Before any module is replaced, so that a refusal leaves the model whole.
        placed = [key for key, each in model.named_modules() if isinstance(each, AdapterLayer)]
        for key, module in model.named_modules():
            name = _unwrapped(key, placed)
            if not name or not self._check_target_module_exists(peft_config, name):
                continue
            self._placed_class.check(peft_config, _width(module, key, model))
            _refuse_overlap(name, [_unwrapped(each, placed) for each in placed])

    def _create_and_replace(  # noqa: PLR0913, PLR0917 - as peft calls it
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,  # noqa: ARG002 - as peft calls it
    ) -> None:
        if isinstance(target, self._placed_class):
            target.add(adapter_name, peft_config)
            return
        place = _place(target, parent, self.model)
        layer = self._placed_class(target, _width(target, current_key, self.model), place)
        layer.add(adapter_name, peft_config)
        layer.set_adapter(self.active_adapters, inference_mode=peft_config.inference_mode)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(
        self,
        parent: nn.Module,
        child_name: str,
        new_module: nn.Module,
        child: nn.Module,  # noqa: ARG002 - peft would look for its weight, which it may not have
    ) -> None:
        setattr(parent, child_name, new_module)

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> bool | re.Match[str] | None:
        found = check_target_module_exists(peft_config, key)
        if found and isinstance(
            peft_config.target_modules, str
        ):  # peft counts layers of lists only
            return _is_chosen_layer(peft_config, key)
        return found

    def _check_merge_allowed(self) -> None:
        # First of all: peft unloads layer by layer, and would stop half way.
        raise ConfigurationError(merge_refused(type(self).__name__))

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - as peft calls it
        """Make one adapter active and trainable, or none.

        Raises:
            ConfigurationError: If several are given; nothing has been changed.

        Privacy:
            Nothing, no data touched.
        """
        refuse_several(adapter_name)
        super().set_adapter(adapter_name, inference_mode=inference_mode)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 - as peft calls it
        """Return False: the adapter is no change of weights.

        Privacy:
            Nothing, no data touched.
        """
        return False

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:  # noqa: ARG002 - as peft calls it
        if kwargs.get("adapter_names") is not None:  # peft would drop it without a word
            raise ConfigurationError(
                "Expected adapter_names=None in the call. Rows of one batch share the active "
                "adapter. Call set_adapter, once a group of rows."
            )
        yield


def _unwrapped(key: str, placed: list[str]) -> str:
    """Return the name of a module as without adapters, or nothing for a part of an adapter."""
    for layer in sorted(placed, key=len, reverse=True):  # the inmost first: the others stay right
        if key.startswith(f"{layer}."):
            base, inside, rest = key[len(layer) + 1 :].partition(".")
            if base != "base_layer":
                return ""
            key = f"{layer}{inside}{rest}"
    return key


def _refuse_overlap(target: str, adapted: list[str]) -> None:
    for other in adapted:
        if f"{target}.".startswith(f"{other}.") is f"{other}.".startswith(f"{target}."):
            continue  # the same place, or apart
        raise ConfigurationError(
            f"Expected target={target} neither to contain nor to lie inside the adapted {other}. "
            "peft would leave out a part of the adapter when it builds or reads it. Choose the "
            "placement of the adapter that is there, or a model of its own."
        )


def _is_chosen_layer(config: Any, key: str) -> bool:
    chosen = getattr(config, "layers_to_transform", None)
    if chosen is None or chosen == []:
        return True
    given = getattr(config, "layers_pattern", None) or r"[^.]+"
    patterns = [given] if isinstance(given, str) else given
    found = re.search(rf"(?:^|\.)(?:{'|'.join(patterns)})\.(\d+)(?:\.|$)", key)
    layers = [chosen] if isinstance(chosen, int) else chosen
    return found is not None and int(found[1]) in layers


def _place(*modules: nn.Module) -> torch.Tensor:
    every = (tensor for module in modules for tensor in module.parameters())
    return next((tensor for tensor in every if tensor.is_floating_point()), torch.empty(0))


def _width(module: nn.Module, key: str, model: nn.Module) -> int:
    if isinstance(module, AdapterLayer):
        return module.width
    sizes = [getattr(module, name, None) for name in _WIDTHS]
    sizes.append(getattr(getattr(model, "config", None), "hidden_size", None))
    known = [size for size in sizes if isinstance(size, int)]
    if not known:
        raise ConfigurationError(
            f"Expected target={key} to be a linear layer, or config.hidden_size to be set. The "
            "adapter's width is not guessed. Choose linear layers as target_modules."
        )
    return known[0]
