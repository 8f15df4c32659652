"""Rows of a table E [V, D] picked by record-batched indices [B, ...].

The per-record gradient is the output gradient, added into the rows that the record used: a sum of
outer products whose left side is one-hot.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from dpft.engine.boundary import Call, Gradients, Tensors
from dpft.engine.outer import Dense, OneHot, Outer
from dpft.errors import UnsupportedError

__all__ = ["EMBEDDING", "embedding_applies"]

_OPTIONS = ("max_norm", "norm_type", "scale_grad_by_freq", "sparse")
_COUPLING_OPTIONS = ("max_norm", "scale_grad_by_freq", "sparse")


class _Embedding:
    """F.embedding(indices, table): operand 0 carries records, operand 1 is the table."""

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Look rows up; keep the indices."""
        return call.run(operands), (operands[0],)

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture indices and output gradients; rows of the padding index get none."""
        (indices,) = saved
        assert indices is not None
        rows, padding = _settings(call)
        width = grad.shape[-1]
        index_BN = call.records_first(0, indices).reshape(call.batch_size, -1)
        axis = call.layout.operands[0]
        assert axis is not None
        grad_BND = axis.records_first(grad, call.batch_size).reshape(call.batch_size, -1, width)
        if padding is not None:
            grad_BND = grad_BND.masked_fill((index_BN == padding).unsqueeze(-1), 0)
        call.capture_outer(1, Outer(OneHot(index_BN, rows), Dense(grad_BND)))
        return [None] * len(needs)


EMBEDDING = _Embedding()


def embedding_applies(call: Call) -> bool:
    """Whether the call is F.embedding with a record-free table.

    Raises:
        UnsupportedError: For options that couple records or have no per-record meaning.
    """
    if call.func not in (functional.embedding, torch.embedding):
        return False
    args, kwargs = call.arguments(call.operands)
    options = {**dict(zip(_OPTIONS, args[3:], strict=False)), **kwargs}
    for option in _COUPLING_OPTIONS:
        if options.get(option) and call.func is functional.embedding:
            raise UnsupportedError(
                f"Expected {option} unset at {call.name}. It changes rows by how often the batch "
                "uses them, which couples records. Unset it."
            )
    return call.layout.operands[0] is not None and call.layout.operands[1:] == (None,)


def _settings(call: Call) -> tuple[int, int | None]:
    args, kwargs = call.arguments([None] * len(call.positions))
    padding = kwargs.get("padding_idx", args[2] if len(args) > 2 else None)
    rows = call.shapes[1][0]
    if padding is not None and padding < 0:
        padding = None if call.func is torch.embedding else rows + padding
    return rows, padding
