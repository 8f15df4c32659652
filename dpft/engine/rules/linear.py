"""y = x W^T + b, y = b + x W and y = x W, where x carries records.

Shapes: B records, N tokens a record (1 if there are none), D width in, P width out.
The per-record gradient of W is g_b^T x_b, a sum of outer products over tokens; that of b is the sum
of g_b over tokens (Goodfellow 2015, 1510.01799, for sequences Li et al. 2021, 2110.05679).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from dpft.engine.boundary import Call, Gradients, Tensors
from dpft.engine.outer import Dense, Outer
from dpft.engine.sites import RecordAxis

__all__ = [
    "ADDMM",
    "LINEAR",
    "MATMUL",
    "addmm_applies",
    "linear_applies",
    "matmul_applies",
]

_MATRIX = 2


class _Affine:
    """One body for the three spellings; `places` gives the positions of x, W and b.

    Args:
        places: Index among the operands of the data, the weight and the bias.
        weight_is_out_in: Whether the weight is [P, D] (linear) and not [D, P] (addmm, matmul).
    """

    def __init__(self, places: tuple[int, int, int], *, weight_is_out_in: bool) -> None:
        self._data, self._weight, self._bias = places
        self._weight_is_out_in = weight_is_out_in

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Run the operation; keep x if W is trainable, and W if x needs a gradient."""
        needs_data_grad = operands[self._data].requires_grad
        operands = call.lowered(operands)
        data, weight = operands[self._data], operands[self._weight]
        keep_data = data if call.targets[self._weight] is not None else None
        return call.run(operands), (keep_data, weight if needs_data_grad else None)

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture g^T x and the token sum of g; return g W for the data."""
        data, weight = saved
        grad_BNP = self._tokens(call, grad)
        if data is not None:
            data_BND = self._tokens(call, data)
            outer = Outer(Dense(grad_BNP), Dense(data_BND))
            outer = outer if self._weight_is_out_in else outer.transposed()
            call.capture_outer(self._weight, outer)
        grads: list[torch.Tensor | None] = [None] * len(needs)
        if self._bias < len(needs) and call.targets[self._bias] is not None:
            call.capture(self._bias, grad_BNP.sum(1))
        if needs[self._data]:
            assert weight is not None
            grads[self._data] = grad @ (weight if self._weight_is_out_in else weight.T)
        return grads

    def _tokens(self, call: Call, tensor: torch.Tensor) -> torch.Tensor:
        axis = call.layout.operands[self._data]
        assert axis is not None
        first = axis.records_first(tensor, call.batch_size)
        return first.reshape(call.batch_size, -1, tensor.shape[-1])


LINEAR = _Affine((0, 1, 2), weight_is_out_in=True)
ADDMM = _Affine((1, 2, 0), weight_is_out_in=False)
MATMUL = _Affine((0, 1, 2), weight_is_out_in=False)


def linear_applies(call: Call) -> bool:
    """Whether the call is F.linear with a record-free weight and bias."""
    return (
        call.func is functional.linear
        and (len(call.shapes) < 3 or call.shapes[2] == call.shapes[1][:1])  # no broadcast bias
        and _data_alone_carries_records(call, data=0)
    )


def addmm_applies(call: Call) -> bool:
    """Whether the call is addmm(b, x, W) with a bias vector and no scaling."""
    return (
        call.func in (torch.addmm, torch.Tensor.addmm)
        and len(call.settings) == len(call.operands)
        and call.shapes[0] == call.shapes[2][1:]
        and _data_alone_carries_records(call, data=1)
    )


def matmul_applies(call: Call) -> bool:
    """Whether the call is x @ W with a record-free matrix W."""
    products: tuple[Any, ...] = (
        torch.matmul,
        torch.Tensor.matmul,
        torch.Tensor.__matmul__,
        torch.mm,
        torch.Tensor.mm,
    )
    return (
        call.func in products
        and len(call.settings) == _MATRIX
        and call.operands[1].dim() == _MATRIX
        and _data_alone_carries_records(call, data=0)
    )


def _data_alone_carries_records(call: Call, *, data: int) -> bool:
    axes = call.layout.operands
    data_axis: RecordAxis | None = axes[data]
    others = [axis for index, axis in enumerate(axes) if index != data]
    return (
        data_axis is not None
        and all(axis is None for axis in others)
        and data_axis.dim < call.operands[data].dim() - 1
        and call.result_axis == data_axis
    )
