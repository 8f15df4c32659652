"""Puts a delta into a model: into copies of its weights, or as an adapter of peft."""

import copy
from typing import Any

import torch
from peft import get_peft_model, set_peft_model_state_dict
from torch import nn
from transformers.pytorch_utils import Conv1D

from dpft.adapters.algebra import (
    BaseModel,
    Delta,
    Dense,
    Family,
    LowRank,
    Offset,
    Part,
    Written,
    write,
)
from dpft.adapters.algebra.heads import HEAD_MODULES, needs_head
from dpft.adapters.algebra.ia3 import FACTOR, is_on_input
from dpft.adapters.algebra.layout import Layout
from dpft.adapters.algebra.names import on_prompted_model
from dpft.adapters.algebra.prompts import ROWS
from dpft.errors import ConfigurationError

__all__ = ["applied", "as_adapter"]

_INTO_WEIGHTS = (Family.WEIGHTS, Family.SCALING)


def applied(delta: Delta, model: nn.Module) -> nn.Module:
    """Return a copy of a model with a delta in it.

    Args:
        delta: What to add.
        model: The base model, without adapters; it stays as it is.

    Returns:
        A copy with changed weights; for prompts, prefixes and networks beside sub-layers, which
        are no changes of weights, a copy with an adapter.

    Raises:
        ConfigurationError: If a place does not fit the model.

    Privacy:
        Nothing, no data touched: released weights.
    """
    BaseModel(model)  # refuses merged adapters
    made = copy.deepcopy(model)
    if delta.family not in _INTO_WEIGHTS:
        adapted: nn.Module = as_adapter(delta, made, "default")
        return adapted
    with torch.no_grad():
        for place in delta.parts:
            _put(made, place, delta.parts[place])
    return made


def as_adapter(delta: Delta, model: nn.Module, adapter_name: str) -> Any:
    """Put a delta into a model as an adapter of peft.

    Args:
        delta: What to add.
        model: The base model, or one with adapters of peft; it is changed in place.
        adapter_name: A new name.

    Returns:
        The model with the adapter, active and not trainable.

    Raises:
        ConfigurationError: If the name is taken, or no adapter of peft holds the delta.

    Privacy:
        Nothing, no data touched: released weights.
    """
    configs = getattr(model, "peft_config", None) or {}
    if adapter_name in configs:
        raise ConfigurationError(
            f"Expected adapter_name={adapter_name} to be new. peft would keep the tensors that are "
            "there. Choose another name."
        )
    written = write(delta)
    rest = _heads_as_they_are(written, model)
    made: Any = model
    if configs:
        made.add_adapter(adapter_name, written.config)
    else:
        made = get_peft_model(made, written.config, adapter_name=adapter_name)
    _widen_rows(made, adapter_name, written)
    loaded: Any = set_peft_model_state_dict(
        made, {**rest, **written.tensors}, adapter_name=adapter_name
    )
    misplaced = sorted(set(loaded.unexpected_keys) - {ROWS})  # peft loads rows by another way
    if misplaced:
        raise ConfigurationError(
            f"Expected places={', '.join(misplaced[:3])} to be in the model. "
            "The vector belongs to another model. Give the one that it was made on."
        )
    if (
        made.peft_config[adapter_name].peft_type not in {"PROMPT_TUNING", "PREFIX_TUNING"}
        or configs
    ):
        made.set_adapter(adapter_name)
    return made.requires_grad_(requires_grad=False).eval()


def _widen_rows(made: Any, adapter_name: str, written: Written) -> None:
    """Let peft hold rows in double precision, which it would round: it makes them in single."""
    if ROWS in written.tensors:
        encoder = made.prompt_encoder[adapter_name]
        held = encoder.embedding.weight.dtype
        encoder.to(torch.promote_types(held, written.tensors[ROWS].dtype))


def _heads_as_they_are(written: Written, model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the heads that peft will ask for beside a prompt, where the delta has none."""
    if not needs_head(written.config):
        return {}
    tensors = BaseModel(model).tensors
    return {
        on_prompted_model(name): tensor.detach().clone()
        for name, tensor in tensors.items()
        if any(f".{module}." in f".{name}" for module in HEAD_MODULES)
    }


def _put(model: nn.Module, place: str, part: Part) -> None:
    owner, _, name = place.rpartition(".")
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        raise _misplaced(place) from None
    if name == FACTOR and isinstance(part, Offset):
        _scale(module, part.value)
    elif isinstance(part, Offset):
        _parameter(module, name, place, part.value).copy_(part.value)
    elif isinstance(part, LowRank | Dense):
        added = _oriented(module, part)
        _refuse_tied(model, module, part)
        _parameter(module, name, place, added).add_(added)


def _oriented(module: nn.Module, part: LowRank | Dense) -> torch.Tensor:
    """Return what to add as the module stores it; the module's own kind decides."""
    if isinstance(part, Dense):
        return part.added
    transposed = isinstance(module, Conv1D | nn.Embedding)
    layout = Layout.CONV1D if transposed else Layout.LINEAR
    return LowRank(part.left, part.right, layout).dense()


def _parameter(module: nn.Module, name: str, place: str, like: torch.Tensor) -> torch.Tensor:
    found: Any = getattr(module, name, None)
    if found is None and name == "bias" and hasattr(module, "bias"):
        zeros = torch.zeros_like(like)  # the bias of an adapter on a layer that has none
        module.bias = nn.Parameter(zeros, requires_grad=False)
        found = module.bias
    if not isinstance(found, torch.Tensor) or found.shape != like.shape:
        raise _misplaced(place)
    return found


def _scale(module: Any, factor: torch.Tensor) -> None:
    flat = factor.reshape(-1).to(module.weight.dtype)
    on_input = is_on_input(factor)
    last = on_input is not isinstance(module, Conv1D)  # which dimension of the stored weight
    if len(flat) != module.weight.shape[-1 if last else 0]:
        raise _misplaced(FACTOR)
    module.weight.mul_(flat if last else flat[:, None])
    if not on_input and module.bias is not None:
        module.bias.mul_(flat)


def _refuse_tied(model: nn.Module, module: nn.Module, part: Part) -> None:
    """Refuse a low-rank change of an embedding that is also the model's output layer."""
    if not isinstance(module, nn.Embedding) or not isinstance(part, LowRank):
        return
    uses = [m for m in model.modules() if getattr(m, "weight", None) is module.weight]
    if len(uses) > 1:
        raise ConfigurationError(
            "Expected the embedding not to share its weight with the output layer. The adapter "
            "changes one of them alone, a change of the weight both. Call to_peft() instead."
        )


def _misplaced(place: str) -> ConfigurationError:
    return ConfigurationError(
        f"Expected place={place} to be in the model, of the same shape. The vector belongs to "
        "another model. Give the one that it was made on."
    )
