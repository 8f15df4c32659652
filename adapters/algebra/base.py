"""The model under an adapter: its tensors by name, what identifies it, where its head begins."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from dpft.errors import ConfigurationError

__all__ = ["BaseModel", "labels_digest", "update_with_tensor"]


class BaseModel:
    """A model as it is without its adapters.

    Args:
        model: A model, also one with adapters of peft in it; they are looked past. Nothing is
            copied.

    Raises:
        ConfigurationError: If an adapter is merged into the weights.

    Privacy:
        Nothing, no data touched: weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = getattr(model, "get_base_model", lambda: model)()
        _refuse_merged(self._model)

    @property
    def name(self) -> str:
        """Name or folder under which the model was loaded; may be empty."""
        config = getattr(self._model, "config", None)
        return str(getattr(config, "_name_or_path", "") or "")

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Parameters and buffers by the names that they have without adapters."""
        adapters = _adapter_prefixes(self._model)
        return {
            _plain(name): tensor
            for name, tensor in self._model.state_dict().items()
            if not name.startswith(adapters) and ".modules_to_save." not in f".{name}"
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, types, shapes and bytes of the model without its head."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            if not self.is_head(name):
                update_with_tensor(digest, name.removeprefix(self._prefix), self.tensors[name])
        return digest.hexdigest()

    @property
    def labels(self) -> str | None:
        """SHA-256 of what the head tells apart, in its order; None where that has no names."""
        config = getattr(self._model, "config", None)
        output = getattr(self._model, "get_output_embeddings", lambda: None)()
        words = None if output is None else int(output.weight.shape[0])
        return labels_digest(getattr(config, "id2label", None), words)

    def is_head(self, name: str) -> bool:
        """Return whether a tensor lies outside of the body of the model.

        Args:
            name: Its name without adapters.

        Privacy:
            Nothing, no data touched.
        """
        return not name.startswith(self._prefix)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a copy of a tensor, which later training of the model does not move.

        Args:
            name: Its name without adapters.

        Raises:
            ConfigurationError: If the model has none of the name.

        Privacy:
            Nothing, no data touched.
        """
        if name not in self.tensors:
            raise ConfigurationError(
                f"Expected base to have {name}. A delta fits the model that it was made on alone. "
                "Give the model that the adapter was trained on."
            )
        return self.tensors[name].detach().clone()

    @property
    def _prefix(self) -> str:
        body = str(getattr(self._model, "base_model_prefix", "") or "")
        is_part = body and isinstance(getattr(self._model, body, None), nn.Module)
        return f"{body}." if is_part else ""


def labels_digest(names: Mapping[Any, str] | None, words: int | None) -> str | None:
    """Return the digest of what a head tells apart.

    Args:
        names: Names of the labels by number; `LABEL_0` and so on are none.
        words: Size of the vocabulary of a head that tells words apart, else None.

    Returns:
        SHA-256, or None: heads of labels without names cannot be known to belong together.

    Privacy:
        Nothing, no data touched.
    """
    ordered = [names[key] for key in sorted(names, key=int)] if names else []
    if words is not None:
        ordered = [f"vocabulary of {words}"]
    elif all(name == f"LABEL_{number}" for number, name in enumerate(ordered)):
        return None
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest()


def update_with_tensor(digest: Any, name: str, tensor: torch.Tensor) -> None:
    """Add a tensor to a digest: name, type, shape and bytes.

    Args:
        digest: Of hashlib; changed in place.
        name: Name of the tensor.
        tensor: On any device.

    Privacy:
        Nothing, no data touched: released weights.
    """
    lines = [name, str(tensor.dtype), list(tensor.shape)]
    digest.update(json.dumps(lines).encode() + b"\n")
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def _plain(name: str) -> str:
    dotted = f".{name}".replace(".base_layer.", ".").replace(".original_module.", ".")
    return dotted.removeprefix(".")


def _adapter_prefixes(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        f"{key}.{part}."
        for key, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
        for part in (*module.adapter_layer_names, *module.other_param_names)
    )


def _refuse_merged(model: nn.Module) -> None:
    layers = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
    if any(layer.merged for layer in layers):
        raise ConfigurationError(
            "Expected no adapter to be merged into the weights. The base model could not be told "
            "from the delta. Call unmerge_adapter() first."
        )
