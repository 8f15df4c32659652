"""A record-free expression expanded to B records: `expand`, `repeat`, `broadcast_to`.

The per-record gradient is the output gradient of the record's own copy, run backward through the
same operation for one record.
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
        return call.run(operands).clone(), (operands[0],)

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture each record's own copy, summed over what else was expanded."""
        (source,) = saved
        assert source is not None
        axis, sizes = call.result_axis, list(grad.shape)
        sizes[axis.dim] = grad.shape[axis.dim] // call.batch_size  # one, unless flattened
        one = _Single(call, tuple(sizes))
        pull = torch.func.vjp(one.run, source.detach())[1]
        split = split_records(grad, axis.dim, call.batch_size)
        (grads_B,) = torch.func.vmap(pull, in_dims=axis.dim)(split)
        call.capture(0, grads_B)
        return [None] * len(needs)


class _Single:
    """The same expansion for one record: its share of the record dimension."""

    def __init__(self, call: Call, sizes: tuple[int, ...]) -> None:
        self._call = call
        self._sizes = sizes

    def run(self, source: torch.Tensor) -> torch.Tensor:
        """Expand the expression to one record."""
        if getattr(self._call.func, "__name__", "") in ("repeat", "tile"):
            ones = (1,) * (len(self._sizes) - source.dim()) + tuple(source.shape)
            times = [size // own for size, own in zip(self._sizes, ones, strict=True)]
            return source.repeat(*times)
        return source.expand(self._sizes)


EXPAND = _Expand()


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
