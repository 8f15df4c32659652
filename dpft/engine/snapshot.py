"""What a model consists of at one moment, found in a single walk over its modules.

Every pass looks at all modules, parameters and buffers for several reasons. Walking the tree is
what costs, so it is done once before a pass and once after it. May be imported by the engine only.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

__all__ = ["Snapshot"]

_Named = Sequence[tuple[str, nn.Module]]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The modules, parameters and buffers of a model, each once, under its first name.

    Args:
        modules: Modules by name, in the model's own order.
        parameters: As `named_parameters` gives them.
        buffers: As `named_buffers` gives them.

    Privacy:
        Never kept from one pass to the next: a model that was changed in between is looked at anew
        (`tests/dpft/engine/test_snapshot.py`).
    """

    modules: _Named
    parameters: dict[str, nn.Parameter]
    buffers: dict[str, torch.Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> "Snapshot":
        """Return what a model consists of now."""
        modules = tuple(model.named_modules())
        parameters, buffers = _held(modules, "_parameters"), _held(modules, "_buffers")
        return cls(modules, parameters, buffers)

    @property
    def modes(self) -> tuple[bool, ...]:
        """Which modules are in train mode."""
        return tuple([module.training for _, module in self.modules])


def _held(modules: _Named, kind: Literal["_parameters", "_buffers"]) -> dict[str, Any]:
    """Return the tensors that modules hold themselves; a shared one under its first name."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for prefix, module in modules:
        for name, tensor in getattr(module, kind).items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{prefix}.{name}" if prefix else name] = tensor
    return found
