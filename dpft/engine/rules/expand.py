"""A record-free expression expanded to B records: `expand`, `repeat`, `broadcast_to`.

The per-record gradient is the output gradient of the record's own copies, summed over them.
"""

from collections.abc import Sequence

import torch

from dpft.engine.boundary import Call, Gradients, Tensors
from dpft.engine.sites import split_records
from dpft.errors import UnsupportedError

__all__ = ["EXPAND", "expand_applies"]

_NAMES = frozenset({"expand", "repeat", "broadcast_to", "tile"})


class _Expand:
    """One operand, the expression; its size arguments name the number of records."""

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Expand; a copy, because records must not share memory when written to."""
        return call.run(operands).clone(), ()

    def backward(
        self,
        call: Call,
        saved: Gradients,  # noqa: ARG002 - every rule has it; nothing was kept here
        grad: torch.Tensor,
        needs: Sequence[bool],
    ) -> Gradients:
        """Capture each record's own copy, summed over what else was expanded."""
        dim = call.result_axis.dim
        first = split_records(grad, dim, call.batch_size).movedim(dim, 0)
        call.capture(0, _folded(first, call.shapes[0]))
        return [None] * len(needs)


EXPAND = _Expand()


def _folded(grads: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Sum [B, *sizes] over the copies of each entry: [B, *shape]."""
    batch_size, *sizes = grads.shape
    own = (1,) * (len(sizes) - len(shape)) + shape
    copies = [part for size, one in zip(sizes, own, strict=True) for part in (size // one, one)]
    summed = grads.reshape(batch_size, *copies).sum(tuple(range(1, 2 * len(sizes), 2)))
    return summed.reshape(batch_size, *shape)


def expand_applies(call: Call) -> bool:
    """Whether the call only copies a record-free expression."""
    named = getattr(call.func, "__name__", "")
    free = all(axis is None for axis in call.layout.operands)
    if free and (named not in _NAMES and named != "expand_as"):
        raise UnsupportedError(
            f"Expected record-free operands to be expanded to records by expand or repeat, got "
            f"{call.name}. Its result grows with the number of records in a way that is not "
            "known. Use expand."
        )
    if named == "expand_as":
        return False
    return named in _NAMES and len(call.operands) == 1
