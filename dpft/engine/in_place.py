"""In-place operations with a tracked operand: rewritten out of place, or refused.

`x += p`, `x.copy_(p)` and `x[i] = p` write a parameter into a data tensor. They become the
out-of-place operation followed by a plain copy into x, which autograd follows. Writing into a
parameter, or into a constant, has no per-record meaning and raises.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten

from dpft.engine.tracked import Expression, is_tracked
from dpft.errors import UnsupportedError

if TYPE_CHECKING:
    from dpft.engine.interception import Interception

__all__ = ["rewrite_in_place", "writes_in_place"]

_AUGMENTED: dict[str, Callable[..., Any]] = {
    "__iadd__": torch.Tensor.add,
    "__isub__": torch.Tensor.sub,
    "__imul__": torch.Tensor.mul,
    "__itruediv__": torch.Tensor.div,
    "__idiv__": torch.Tensor.div,
}
_UNDERSCORED: dict[str, Callable[..., Any]] = {
    "add_": torch.Tensor.add,
    "sub_": torch.Tensor.sub,
    "mul_": torch.Tensor.mul,
    "div_": torch.Tensor.div,
}
_HARMLESS = frozenset({"requires_grad_", "retain_grad", "register_hook"})
_Rewritten = Callable[["Interception"], Any]


def rewrite_in_place(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Rewritten | None:
    """Return the out-of-place form of an in-place operation, None if it is not one.

    Args:
        func: The operation.
        args: Its arguments; the first is written to.
        kwargs: Its keyword arguments.

    Returns:
        A function of the interception that carries it out, or None.

    Raises:
        UnsupportedError: If it writes into a parameter, into `out=`, or is not known.

    Privacy:
        Fails closed: an unknown in-place form is refused
        (`tests/dpft/engine/test_refusals.py::test_in_place_forms_outside_the_list_are_refused`).
    """
    name = getattr(func, "__name__", "")
    if kwargs.get("out") is not None:
        raise _refused(f"{name}(out=...)", "writes a parameter into a given tensor")
    if not writes_in_place(name) or name in _HARMLESS:
        return None
    if isinstance(args[0], Expression) and _is_probing(args[0]):
        return lambda _: func(*args, **kwargs)  # a later pass may find that it carries records
    if is_tracked(args[0]):
        raise _refused(name, "changes a trainable parameter inside the forward pass")
    if name == "__setitem__":
        return lambda interception: _set_item(interception, *args)
    if name == "copy_":
        return lambda interception: _write(args[0], _expanded(interception, args[1], args[0].shape))
    plain = _AUGMENTED.get(name) or _UNDERSCORED.get(name)
    if plain is None:
        raise _refused(name, "is not among the forms that are rewritten")
    return lambda interception: _write(
        args[0], _carry_out(interception, plain, (args[0].clone(), *args[1:]), kwargs)
    )


def writes_in_place(name: str) -> bool:
    """Tell by its name whether an operation writes into its first argument."""
    underscored = name.endswith("_") and not name.endswith("__")
    return underscored or name in _AUGMENTED or name == "__setitem__"


def _set_item(interception: "Interception", target: torch.Tensor, index: Any, value: Any) -> None:
    if is_tracked(index) or not isinstance(value, torch.Tensor):
        raise _refused("__setitem__", "uses a trainable parameter as an index")
    target[index] = _no_expression(_expanded(interception, value, target[index].shape))


def _expanded(interception: "Interception", value: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    expand: Callable[..., Any] = torch.Tensor.expand
    result = _carry_out(interception, expand, (value, shape), {})
    assert isinstance(result, torch.Tensor)
    return result


def _carry_out(
    interception: "Interception",
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    flat, spec = tree_flatten((args, kwargs))
    return interception.carry_out(func, flat, spec)


def _write(target: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return target.copy_(_no_expression(value))


def _no_expression(value: torch.Tensor) -> torch.Tensor:
    if isinstance(value, Expression) and not _is_probing(value):
        raise _refused("an in-place write", "puts a parameter into a constant")
    return value


def _is_probing(expression: Expression) -> bool:
    return expression.dpft_interception.recorder is not None  # type: ignore[attr-defined]  # ours


def _refused(what: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"Expected no in-place write with a trainable parameter, got {what}, which {why}. Its "
        "gradient would by-pass clipping. Use the out-of-place operation."
    )
