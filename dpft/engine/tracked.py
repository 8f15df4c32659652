"""Tensors that announce every operation that touches them.

While a model is attached its trainable parameters are `TrackedParameter`s; what is computed from
them alone is an `Expression`. Both hand each operation to `dpft.engine.interception`; all other
tensors of the model are untouched and cost nothing.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from dpft.errors import BrokenGuaranteeError

if TYPE_CHECKING:
    from dpft.engine.interception import Interception

__all__ = ["Expression", "TrackedParameter", "is_tracked", "mark", "mark_transpose", "operate"]

_MATRIX = 2
_TRANSPOSITIONS = frozenset(
    {
        torch.Tensor.t,
        torch.Tensor.T.__get__,  # type: ignore[attr-defined]  # a descriptor of C
        torch.Tensor.mT.__get__,  # type: ignore[attr-defined]  # a descriptor of C
        torch.Tensor.transpose,
        torch.Tensor.permute,
        torch.t,
        torch.transpose,
        torch.permute,
    }
)

# Reading these never makes a new differentiable tensor; skipping them keeps the step fast.
_PLAIN_READS = frozenset(
    getattr(torch.Tensor, name).__get__
    for name in (
        "shape dtype device ndim requires_grad is_leaf grad grad_fn layout is_cuda is_meta "
        "is_sparse is_quantized is_nested data _version output_nr itemsize nbytes"
    ).split()
) | frozenset(
    getattr(torch.Tensor, name)
    for name in (
        "size dim stride numel is_floating_point is_complex is_contiguous element_size detach "
        "data_ptr storage_offset untyped_storage get_device __len__ __hash__ __repr__"
    ).split()
)


class _Announces:
    """Mixin: hand every operation to the interception that the operands belong to."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - torch offers no other
            if func in _PLAIN_READS or not torch.is_grad_enabled():
                return func(*args, **(kwargs or {}))
            return operate(func, args, kwargs or {})


class TrackedParameter(_Announces, nn.Parameter):
    """A trainable parameter of an attached model.

    Privacy:
        Nothing, no data touched.
    """


class Expression(_Announces, torch.Tensor):
    """A record-free tensor computed from trainable parameters; keeps its graph to the leaves.

    Privacy:
        Nothing, no data touched.
    """


def is_tracked(value: object) -> bool:
    """Tell whether a value is a tracked parameter or an expression."""
    return isinstance(value, (TrackedParameter, Expression))


def mark(tensor: torch.Tensor, interception: "Interception", key: int) -> None:
    """Tie a tracked tensor to its interception and give it its structural key."""
    tensor.dpft_interception = interception  # type: ignore[attr-defined]  # ours
    tensor.dpft_key = key  # type: ignore[attr-defined]  # ours


def mark_transpose(func: Callable[..., Any], source: object, expression: torch.Tensor) -> None:
    """Note that an expression is the transpose of a matrix parameter, if it is.

    Privacy:
        Only operations of which nothing else can come of the same shape and memory are taken: what
        is captured at the transpose is then captured, transposed, at the parameter.
    """
    if func not in _TRANSPOSITIONS or not isinstance(source, TrackedParameter):
        return
    reversed_ = expression.shape == source.shape[::-1]
    if source.dim() == _MATRIX and reversed_ and expression.stride() == source.stride()[::-1]:
        expression.dpft_transpose_of = source  # type: ignore[attr-defined]  # ours


def operate(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Carry out one operation, through the interception its tracked operands belong to.

    Args:
        func: The operation, as given to `__torch_function__`.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        What the operation returns; an `Expression` if it is differentiable and record-free.

    Raises:
        BrokenGuaranteeError: If the operands belong to different steps, or to none.
        UnsupportedError: If the operation's per-record gradient cannot be shown to be exact.

    Privacy:
        No data are released. Gradients of the operation's parameters reach only the step's state.
    """
    flat, _ = tree_flatten((args, kwargs))
    tracked = [value for value in flat if is_tracked(value) and value.requires_grad]
    if not tracked:
        return func(*args, **kwargs)
    homes = {id(getattr(value, "dpft_interception", None)) for value in tracked}
    interception: Interception | None = getattr(tracked[0], "dpft_interception", None)
    if interception is None or len(homes) > 1:
        raise BrokenGuaranteeError(
            f"Expected all parameters of {getattr(func, '__name__', func)} to belong to the "
            "current step. A gradient across steps would by-pass clipping. Do not keep tensors "
            "between steps."
        )
    return interception.operate(func, args, kwargs)
