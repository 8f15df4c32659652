"""What must not change between the processes of one run, in public values.

Resuming compares it; a difference is refused by name. Nothing of any record enters, not even as a
digest: whoever knows a digest of a data set can test who is in it.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
from torch import nn

from dpft.privacy import NoiseKind, PrivacyPlan

__all__ = ["fingerprint", "is_sharded_tensor", "stored_parts"]

# Where a model lies and which release wrote its adapter; the weights themselves are compared.
_LEFT_OUT = {"base_model_name_or_path", "peft_version"}

# peft keeps the module that a trained copy replaces. It computes nothing, and for a fresh head it
# holds other random numbers in every process.
_UNUSED = "original_module"


def fingerprint(
    model: nn.Module, plan: PrivacyPlan, optim: Any, *, generator: str
) -> dict[str, Any]:
    """Describe a run before its first step, such that another one is told apart.

    Args:
        model: The model with its adapter, untrained.
        plan: The plan.
        optim: Optimiser settings, a dataclass; None leaves them out.
        generator: Name of the source of randomness: a pinned one is never mixed with a secret one.

    Returns:
        JSON values by name: the plan, the generator, the optimiser, the adapter's configuration,
        dtype and shape of every parameter, one SHA-256 over the frozen weights and the buffers;
        of weights that are sharded over processes over their names and shapes alone.

    Privacy:
        Nothing, no data touched: all values are public before training. The digest is of the
        public base model, never of anything trained or of records (`tests/dpft/test_resume.py`).
    """
    return {
        **_planned(plan),
        "generator": generator,
        **_fields("optim", {} if optim is None else dataclasses.asdict(optim)),
        **_fields("adapter", _adapter(model)),
        **_fields("parameter", {name: _form(p) for name, p in model.named_parameters()}),
        "base model": _digest_of_what_stays(model),
    }


def is_sharded_tensor(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a DTensor, without importing what defines it.

    Privacy:
        Nothing, no data touched.
    """
    return hasattr(tensor, "device_mesh")


def stored_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the plain tensors that a tensor is stored as: a quantised one has several.

    Args:
        tensor: Any; of one that is sharded over processes the part of this one.

    Privacy:
        Nothing, no data touched.
    """
    if is_sharded_tensor(tensor):  # it lists its mesh among what it is made of
        sharded: Any = tensor
        return stored_parts(sharded.to_local())
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return [tensor, *_scales(getattr(tensor, "quant_state", None))]
    names, _ = flatten()
    return [part for name in names for part in stored_parts(getattr(tensor, name))]


def _scales(state: Any) -> list[torch.Tensor]:
    """Return what bitsandbytes keeps beside packed numbers: scales, and those of the scales."""
    if state is None:
        return []
    kept = [getattr(state, name, None) for name in ("absmax", "code", "offset")]
    found = [each for each in kept if isinstance(each, torch.Tensor)]
    return [*found, *_scales(getattr(state, "state2", None))]


def _planned(plan: PrivacyPlan) -> dict[str, Any]:
    privacy, length = plan.privacy, plan.length
    values = {
        "noise_multiplier": plan.noise_multiplier,
        "sample_rate": length.sample_rate,
        "expected_batch_size": length.expected_batch_size,
        "num_records": length.num_records,
        "steps": length.steps,
        "adjacency": length.adjacency,
        "clip_norm": privacy.clip_norm,
        "clipping": privacy.clipping,
        "delta": privacy.delta,
        "accountant": privacy.accountant,
        "dataset_id": privacy.dataset_id,
        "mode": privacy.mode,
        "unit": privacy.covers,
        "records_per_user": privacy.records_per_user,
    }
    if privacy.noise is not NoiseKind.GAUSSIAN:  # runs of before it was a choice have no such field
        values["noise"] = privacy.noise
    return _fields("privacy", values)


def _adapter(model: nn.Module) -> dict[str, Any]:
    configurations: Mapping[str, Any] = getattr(model, "peft_config", {})
    return {
        f"{name}.{field}": value
        for name, configuration in configurations.items()
        for field, value in configuration.to_dict().items()
        if field not in _LEFT_OUT
    }


def _fields(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Return a JSON value that is the same in every process: names in a set have no order."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset | list | tuple):
        items = [_plain(item) for item in value]
        # peft appends to `modules_to_save` whenever a configuration is used: names are a set
        return sorted(set(items)) if all(isinstance(item, str) for item in items) else items
    return type(value).__qualname__


def _form(parameter: nn.Parameter) -> str:
    shape = "x".join(map(str, parameter.shape)) or "scalar"
    trained = "trained" if parameter.requires_grad else "frozen"
    return f"{str(parameter.dtype).removeprefix('torch.')} {shape} {trained}"


def _digest_of_what_stays(model: nn.Module) -> str:
    digest = hashlib.sha256()
    frozen = [
        (name, p)
        for name, p in model.named_parameters()
        if not p.requires_grad and _UNUSED not in name.split(".")
    ]
    for name, tensor in [*frozen, *model.named_buffers()]:
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if is_sharded_tensor(tensor):  # the others' parts lie elsewhere
            continue
        for part in stored_parts(tensor):
            raw_bytes = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw_bytes.numpy().data)
    return digest.hexdigest()
