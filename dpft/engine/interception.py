"""What happens to an operation that touches a trainable parameter.

An operation on record-free tensors alone gives an `Expression`; one that meets records becomes a
boundary, whose backward captures per-record gradients. Everything else raises.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from dpft.engine.attention import rewrite_attention
from dpft.engine.boundary import Boundary, Call
from dpft.engine.in_place import rewrite_in_place
from dpft.engine.rules import rule_for
from dpft.engine.tracked import Expression, is_tracked, mark, mark_transpose
from dpft.errors import BrokenGuaranteeError

if TYPE_CHECKING:
    from dpft.engine.captures import StepState
    from dpft.engine.probe import Recorder

__all__ = ["Interception", "operation_name"]

_Operation = Callable[..., Any]


def operation_name(func: _Operation) -> str:
    """Return a readable name of an operation."""
    return getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or repr(func)


def _kept_out_of_hooks() -> AbstractContextManager[None]:
    """Let an expression keep its own tensors, whatever hooks are set.

    Its graph is run backward after, or inside, the backward pass of the records. By then activation
    checkpointing would recompute the whole region for it, without interception.
    """
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:  # noqa: FBT003, SLF001 - torch offers no other
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(_pack, _unpack)


def _pack(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    return tensor.detach(), tensor._version  # noqa: SLF001 - torch's own count of writes


def _unpack(kept: tuple[torch.Tensor, int]) -> torch.Tensor:
    tensor, version = kept
    if tensor._version != version:  # noqa: SLF001 - as above
        raise BrokenGuaranteeError(
            "Expected what an expression of parameters was computed from to stay as it was until "
            "the backward pass; it was written to. Its gradient would be another one. Use the "
            "out-of-place operation."
        )
    return tensor


class Interception:
    """Decides for one attachment of a model what each operation is.

    Args:
        names: Name of each attached parameter by id.
        keys: Numbers given to site keys; shared by all attachments of one model.
        buffers: Ids of the model's buffers.

    Privacy:
        Which operands carry records is read from the probe's table; nothing is guessed.
    """

    def __init__(self, names: dict[int, str], keys: dict[object, int], buffers: set[int]) -> None:
        """Start without a step or a probe."""
        self.names = names
        self.state: StepState | None = None
        self.recorder: Recorder | None = None
        self.is_over = False
        self._keys = keys
        self._buffers = buffers

    def operate(self, func: _Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one operation with a tracked operand, in-place forms rewritten.

        Raises:
            BrokenGuaranteeError: If the pass is over.
        """
        if self.is_over:
            raise BrokenGuaranteeError(
                f"Expected all parameters of {operation_name(func)} to belong to the current pass. "
                "A gradient across passes would by-pass clipping. Do not keep tensors between them."
            )
        rewritten = rewrite_in_place(func, args, kwargs) or rewrite_attention(func, args, kwargs)
        if rewritten is not None:
            return rewritten(self)
        flat, spec = tree_flatten((args, kwargs))
        return self.carry_out(func, flat, spec)

    def carry_out(self, func: _Operation, flat: list[Any], spec: Any) -> Any:
        """Run an operation as an expression or as a boundary."""
        key, name = self._identify(func, flat)
        operands = [value for value in flat if isinstance(value, torch.Tensor)]
        if self.recorder is not None:
            args, kwargs = tree_unflatten(flat, spec)
            result = func(*args, **kwargs)
            result, meets_records = self.recorder.observe(key, name, operands, result)
            return result if meets_records else self._expression(result, key)
        if self.state is None or self.state.closed:
            raise BrokenGuaranteeError(
                f"Expected {name} to run inside the loss of a step. Its gradient would by-pass "
                "clipping. Call the model from the loss only."
            )
        shapes = [tuple(operand.shape) for operand in operands]
        layout = self.state.table.find(key, name, shapes, self.state.batch_size)
        if not layout.is_boundary:
            args, kwargs = tree_unflatten(flat, spec)
            with _kept_out_of_hooks():
                expression = self._expression(func(*args, **kwargs), key)
            mark_transpose(func, flat[0], expression)
            return expression
        return self._boundary(Call(func, name, flat, spec, layout, self.state))

    def _boundary(self, call: Call) -> torch.Tensor:
        rule = rule_for(call)
        detached = [
            operand
            if operand.is_leaf or not is_tracked(operand)
            else operand.detach().requires_grad_(operand.requires_grad)
            for operand in call.operands
        ]
        self._refuse_strangers(call)
        apply: _Operation = Boundary.apply
        result: torch.Tensor = apply(rule, call, *detached)
        return result

    def _refuse_strangers(self, call: Call) -> None:
        for operand, axis in zip(call.operands, call.layout.operands, strict=True):
            if axis is None and operand.requires_grad and not is_tracked(operand):
                raise BrokenGuaranteeError(
                    f"Expected every trainable operand of {call.name} to be attached, got one of "
                    f"shape {tuple(operand.shape)} that is not. Its gradient would by-pass "
                    "clipping. Give it to the optimiser before training starts, or freeze it."
                )

    def _expression(self, result: Any, key: int) -> Any:
        def track(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not value.requires_grad:
                return value
            if is_tracked(value):
                return value  # the operation returned its operand
            expression = value.as_subclass(Expression)
            mark(expression, self, key)
            return expression

        return tree_map(track, result)

    def _identify(self, func: _Operation, flat: list[Any]) -> tuple[int, str]:
        parts: list[object] = [func]
        names = []
        for value in flat:
            if is_tracked(value):
                parts.append(value.dpft_key)
                names.append(self.names.get(id(value), "expression"))
            elif isinstance(value, torch.Tensor):
                parts.append((self._kind(value), value.dim()))
        key = self._keys.setdefault(tuple(parts), len(self._keys))
        return key, f"{operation_name(func)}({', '.join(names)})"

    def _kind(self, tensor: torch.Tensor) -> str:
        if isinstance(tensor, torch.nn.Parameter):
            return "frozen"
        return "buffer" if id(tensor) in self._buffers else "computed"
