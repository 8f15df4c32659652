"""Custom `torch.autograd.Function`s during a step.

`Function.apply` does not pass through `__torch_function__`. While a model is attached it is
wrapped: a Function of record-free tensors gives an expression, one that mixes a trainable
parameter with records is refused by name.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten

from dpft.engine.boundary import Boundary
from dpft.engine.tracked import is_tracked, operate

if TYPE_CHECKING:
    from dpft.engine.probe import Taint

__all__ = ["intercept_functions"]

_LOCK = threading.RLock()
_ORIGINAL = torch.autograd.Function.__dict__["apply"]
_active: list["Taint | None"] = []


@contextmanager
def intercept_functions(taint: "Taint | None" = None) -> Iterator[None]:
    """Intercept `torch.autograd.Function.apply` for the length of a pass.

    Args:
        taint: While probing, what follows tensors computed from records.

    Privacy:
        Without it a Function applied to a parameter would form an un-clipped gradient; that would
        still be found, and refused, after the backward pass.
    """
    with _LOCK:
        _active.append(taint)
        torch.autograd.Function.apply = classmethod(_apply)  # type: ignore[assignment, method-assign]  # for the pass
    try:
        yield
    finally:
        with _LOCK:
            _active.pop()
            if not _active:
                torch.autograd.Function.apply = _ORIGINAL  # type: ignore[method-assign]  # restored


def _apply(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
    plain = _ORIGINAL.__get__(None, cls)
    if issubclass(cls, Boundary):
        return plain(*args, **kwargs)
    if any(is_tracked(value) for value in args):
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - torch offers no other
            named = _named(cls, plain)
            return (
                operate(named, args, kwargs) if torch.is_grad_enabled() else named(*args, **kwargs)
            )
    result = plain(*args, **kwargs)
    taint = _active[-1] if _active else None
    if taint is not None and any(taint.has(v) for v in args if isinstance(v, torch.Tensor)):
        results = [v for v in tree_flatten(result)[0] if isinstance(v, torch.Tensor)]
        taint.add(results)
        taint.ragged.follow(plain, args, [v for v in args if isinstance(v, torch.Tensor)], results)
    return result


_wrappers: dict[type, Any] = {}


def _named(cls: type[torch.autograd.Function], plain: Any) -> Any:
    if cls not in _wrappers:

        def function(*args: Any, **kwargs: Any) -> Any:
            return plain(*args, **kwargs)

        function.__qualname__ = f"{cls.__qualname__}.apply"
        function.__name__ = "apply"
        function.dpft_custom_function = True  # type: ignore[attr-defined]  # read by rule_for
        _wrappers[cls] = function
    return _wrappers[cls]
