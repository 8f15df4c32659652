"""What torch really holds while something runs, for comparison with what was foreseen."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_bytes", "saved_bytes"]


def peak_bytes(action: Callable[[], object]) -> int:
    """Return the most bytes that torch's allocator held at a time, over those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        action()
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
    live = peak = 0
    for change in changes:
        live += change.nbytes()
        peak = max(peak, live)
    return peak


def saved_bytes(model: Any, loss: Any, batch: Any) -> int:
    """Return how many bytes a forward pass keeps for the backward pass, weights left out."""
    held = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = loss(model, batch)
        total = sum(kept.values())
    del losses
    return total
