"""The autograd node in which a trainable parameter meets records.

Forward computes what the plain operation computes. Backward returns the gradient of the data and
captures the per-record gradient of the parameters; no `param.grad` is ever formed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils._pytree import tree_unflatten

from dpft.engine.tracked import is_tracked

if TYPE_CHECKING:
    from dpft.engine.captures import StepState
    from dpft.engine.outer import Outer
    from dpft.engine.sites import Layout, RecordAxis

__all__ = ["Boundary", "Call", "Gradients", "Rule", "Tensors"]

Tensors = tuple[torch.Tensor, ...]
Gradients = Sequence[torch.Tensor | None]


class Call:
    """One operation at a boundary: what to run, on which operands, and where records lie.

    Args:
        func: The operation.
        name: Its name, with the parameters' names.
        flat: Its flattened arguments.
        spec: How to put them together again.
        layout: Record axes of the operands and the result.
        state: Where per-record gradients are captured.

    Privacy:
        Holds no tensor itself: operands that backward needs go through `save_for_backward`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - six facts of one call
        self,
        func: Callable[..., Any],
        name: str,
        flat: list[Any],
        spec: Any,
        layout: "Layout",
        state: "StepState",
    ) -> None:
        """Split the arguments into operands (tensors) and everything else."""
        self.func = func
        self.name = name
        self.layout = layout
        self.state = state
        self.spec = spec
        self.positions = [i for i, value in enumerate(flat) if isinstance(value, torch.Tensor)]
        self.operands: list[torch.Tensor] = [flat[i] for i in self.positions]
        self.shapes = [tuple(operand.shape) for operand in self.operands]
        self.settings = [None if isinstance(value, torch.Tensor) else value for value in flat]
        self.device_type = self.operands[0].device.type
        self.autocast = _autocast_dtype(self.device_type)
        if self.autocast is not None:
            state.precisions.add(self.autocast)
        self.targets = [
            state.target(operand) if is_tracked(operand) and operand.requires_grad else None
            for operand in self.operands
        ]

    @property
    def batch_size(self) -> int:
        """Number of records B."""
        return self.state.batch_size

    @property
    def result_axis(self) -> "RecordAxis":
        """Record axis of the result."""
        axis = self.layout.result
        assert axis is not None
        return axis

    def arguments(self, operands: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs of the operation with these operands."""
        flat = list(self.settings)
        for position, operand in zip(self.positions, operands, strict=True):
            flat[position] = operand
        args, kwargs = tree_unflatten(flat, self.spec)
        return args, kwargs

    def run(self, operands: Sequence[Any]) -> torch.Tensor:
        """Carry out the operation on these operands."""
        args, kwargs = self.arguments(operands)
        result: torch.Tensor = self.func(*args, **kwargs)
        return result

    def lowered(self, operands: Sequence[torch.Tensor]) -> Tensors:
        """Return operands as autocast hands them to a product, if it is on."""
        if self.autocast is None:
            return tuple(operands)
        return tuple(x.to(self.autocast) if _is_cast(x) else x for x in operands)

    def same_precision(self) -> AbstractContextManager[Any]:
        """Return autocast as it was when the operation ran, for running it again in backward."""
        on = self.autocast is not None
        return torch.autocast(self.device_type, self.autocast, enabled=on)

    def records_first(self, index: int, tensor: torch.Tensor) -> torch.Tensor:
        """Return operand `index` (or its gradient) as a view [B, ...]."""
        axis = self.layout.operands[index]
        assert axis is not None
        return axis.records_first(tensor, self.batch_size)

    def capture(self, index: int, grads_B: torch.Tensor) -> None:
        """Add the per-record gradient [B, *shape] of operand `index`, if it is trainable."""
        target = self.targets[index]
        if target is not None:
            self.state.capture(target, grads_B)

    def capture_outer(self, index: int, outer: "Outer") -> None:
        """Add the gradient of operand `index`, given as outer products, if it is trainable."""
        target = self.targets[index]
        if target is not None:
            self.state.capture_outer(target, outer)


def _autocast_dtype(device_type: str) -> torch.dtype | None:
    # "meta" has none, and asking whether it is on would raise
    on = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if on else None


def _is_cast(tensor: torch.Tensor) -> bool:
    """Whether autocast would change a tensor's type: float64 and integers it leaves alone."""
    return tensor.is_floating_point() and tensor.dtype is not torch.float64


def _own(result: torch.Tensor, operands: Tensors) -> torch.Tensor:
    """Return a result that may be written to: a copy where it shares an operand's memory.

    What the operation returns as a view of its own scratch memory (a lookup of rows does) loses
    that mark, because autograd forbids writing to a view made inside a Function.
    """
    if not result._is_view():  # noqa: SLF001 - torch has no public name for it
        return result
    storage = result.untyped_storage().data_ptr()
    if result.numel() and any(x.untyped_storage().data_ptr() == storage for x in operands):
        return result.clone()
    owned: torch.Tensor = torch.ops.aten._unsafe_view(result, result.shape)  # noqa: SLF001 - as above
    return owned


class Rule(Protocol):
    """How one kind of operation is carried out and differentiated per record."""

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Return the result and what backward needs (tensors or None)."""

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture per-record gradients; return the data's gradient for each operand or None."""


class Boundary(torch.autograd.Function):
    """Runs a rule inside autograd."""

    @staticmethod
    def forward(ctx: FunctionCtx, rule: Rule, call: Call, *operands: torch.Tensor) -> torch.Tensor:
        """Compute the operation."""
        result, saved = rule.forward(call, operands)
        result = _own(result, operands)
        call.operands = []  # from here on only autograd's own saved tensors keep them alive
        ctx.rule, ctx.call = rule, call  # type: ignore[attr-defined]  # autograd's open context
        ctx.save_for_backward(*saved)  # type: ignore[arg-type]  # torch takes None too
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        """Capture per-record gradients and return the gradients of the data."""
        needs = ctx.needs_input_grad[2:]
        # Reading them may recompute a checkpointed region, which has to be intercepted again.
        saved = [None if kept is None else kept.detach() for kept in ctx.saved_tensors]
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - torch offers no other
            grads = ctx.rule.backward(ctx.call, saved, grad, needs)
        data = [
            None if target is not None else given
            for target, given in zip(ctx.call.targets, grads, strict=True)
        ]
        return (None, None, *data)
