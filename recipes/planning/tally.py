"""Counts what a pass over tensors without values would hold and compute.

Tensors on the meta device have shapes and no memory. Every operation on them is seen by
`torch_dispatch`, and every storage is counted from when it is made until it is let go, so that the
count follows the program as it is, whatever the architecture.
"""

import gc
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

__all__ = ["Tally", "fused_attention"]

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention  # noqa: SLF001 - torch's own name


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]  # theirs
    """Counts the bytes that live at a time, and the operations of matrix products.

    What a program asks of values is answered: masks hide something, tensors that are compared are
    equal.

    Args:
        held: Tensors that were there before and are not counted.

    Privacy:
        Nothing, no data touched.

    References:
        Checked against torch's own count of allocations in `tests/recipes/planning/test_tally.py`.
    """

    def __init__(self, held: Iterable[torch.Tensor] = ()) -> None:
        """Start at nothing."""
        super().__init__()  # type: ignore[no-untyped-call]  # theirs
        self.live = 0
        self.peak = 0
        self.flops = 0
        self._held = [tensor.untyped_storage() for tensor in held]
        self._sizes = {_key(storage): 0 for storage in self._held}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count what it makes."""
        answer = _answer(func, args)
        if answer is not None:
            return answer
        result = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func.overloadpacket)
        if counted is not None:
            self.flops += counted(*args, **(kwargs or {}), out_val=result)
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def start_over(self) -> None:
        """Take what lives now for what is there at rest."""
        gc.collect()
        self.live = self.peak = self.flops = 0

    def settled(self) -> int:
        """Return the bytes that live now, without those that only a cycle keeps."""
        gc.collect()
        return self.live

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = _key(storage)
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._let_go, key)

    def _let_go(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Take attention on the meta device for what accelerators and processors run: one kernel.

    torch itself would write it out there, and count scores for all pairs of tokens. It is replaced
    by name: a mode would be left in the backward pass, where activations are computed anew.

    Privacy:
        Nothing, no data touched.
    """
    plain = functional.scaled_dot_product_attention

    def attention(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        mask = args[0] if args else kwargs.get("attn_mask")
        if not query.is_meta or (mask is not None and mask.requires_grad):
            return plain(query, key, value, *args, **kwargs)
        return _fused(query, key, value, kwargs.get("scale"))

    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    shared = query.shape[1] // key.shape[1]
    if shared > 1:  # queries in groups
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    result: torch.Tensor = _FLASH(query, key, value, scale=scale)[0]
    return result


def _key(storage: torch.UntypedStorage) -> int:
    identity: int = storage._cdata  # noqa: SLF001 - a storage has no other identity
    return identity


def _answer(func: Any, args: tuple[Any, ...]) -> bool | None:
    """Return what is said of values that are not there, None if nothing is asked of them."""
    if func is torch.ops.aten.equal.default and args[0].is_meta:
        return True
    asked = func is torch.ops.aten._local_scalar_dense.default  # noqa: SLF001 - torch's own name
    return False if asked and args[0].is_meta and args[0].dtype is torch.bool else None
