"""x + p, x - p, x * p with broadcasting, where one operand carries records.

The per-record gradient of p is the output gradient (times the other operand for a product),
summed over the dimensions along which p was broadcast, the record dimension excepted.
"""

from collections.abc import Sequence

import torch

from dpft.engine.boundary import Call, Gradients, Tensors
from dpft.engine.sites import RecordAxis, split_records

__all__ = ["ELEMENTWISE", "elementwise_applies"]

_SIGNS = {"add": (1, 1), "sub": (1, -1), "mul": (1, 1)}
_NAMES = {
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "sub",
    "__mul__": "mul",
    "__rmul__": "mul",
}
_PAIR = 2


class _Elementwise:
    """Two operands; the names in _SIGNS."""

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Compute; a product keeps the factor that the other one's gradient needs."""
        if _name(call) != "mul":
            return call.run(operands), ()
        needs = [operand.requires_grad for operand in operands]
        kept = [operands[1 - index] if needs[index] else None for index in range(_PAIR)]
        return call.run(operands), kept

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture the parameter's share and return the data's."""
        name = _name(call)
        grads: list[torch.Tensor | None] = [None] * _PAIR
        for index in range(_PAIR):
            if not needs[index]:
                continue
            share = grad if _SIGNS[name][index] > 0 else -grad
            factor = saved[index] if name == "mul" else None
            share = share if factor is None else share * factor
            if call.targets[index] is not None:
                call.capture(index, self._per_record(call, share, call.shapes[index]))
            else:
                grads[index] = share.sum_to_size(call.shapes[index])
        return grads

    def _per_record(self, call: Call, share: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        axis = call.result_axis
        aligned = (1,) * (share.dim() - len(shape)) + shape
        broadcast = [
            dim for dim, size in enumerate(aligned) if size != share.shape[dim] and dim != axis.dim
        ]
        if broadcast:
            share = share.sum(broadcast, keepdim=True)
        first = share.movedim(axis.dim, 0)
        if axis.flattened:
            first = split_records(first, 0, call.batch_size).sum(1)
        return first.reshape(call.batch_size, *shape)


ELEMENTWISE = _Elementwise()


def elementwise_applies(call: Call) -> bool:
    """Whether the call is a sum, difference or product of records and a record-free parameter."""
    if _name(call) not in _SIGNS or len(call.settings) != _PAIR or len(call.operands) != _PAIR:
        return False
    axes: tuple[RecordAxis | None, ...] = call.layout.operands
    with_records = [index for index, axis in enumerate(axes) if axis is not None]
    if len(with_records) != 1:
        return False
    parameter = call.operands[1 - with_records[0]]
    place = call.result_axis.dim - (max(map(len, call.shapes)) - parameter.dim())
    return place < 0 or parameter.shape[place] == 1


def _name(call: Call) -> str:
    name = getattr(call.func, "__name__", "")
    return _NAMES.get(name, name)
