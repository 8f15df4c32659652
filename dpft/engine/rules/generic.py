"""Any operation: `vmap` over records of the operation's own vector-Jacobian product.

Exact and slower; the preflight reports which operations fall here. Each record is passed with its
record dimension kept at size one, so that the operation sees the ranks it was written for.
"""

from collections.abc import Sequence

import torch

from dpft.engine.boundary import Call, Gradients, Tensors
from dpft.engine.memory import ran_out_of_memory
from dpft.engine.sites import RecordAxis, split_records
from dpft.errors import UnsupportedError

__all__ = ["GENERIC"]


class _Generic:
    """Keeps every operand; differentiates by torch.func."""

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Run the operation."""
        result = call.run(operands)
        if not isinstance(result, torch.Tensor):
            raise UnsupportedError(
                f"Expected {call.name} to return one tensor where it meets records. Per-record "
                "gradients of several results are not defined here. Split the operation."
            )
        return result, operands

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture parameters' and return data's gradients."""
        operands = [tensor.detach() for tensor in saved if tensor is not None]
        wanted = [i for i, needed in enumerate(needs) if needed]
        try:
            with call.same_precision():
                pulled = _pull_each_record(call, operands, grad, wanted)
        except (RuntimeError, TypeError, ValueError) as error:
            if ran_out_of_memory(error):
                raise
            raise UnsupportedError(
                f"Expected {call.name} to be differentiable record by record; torch.func.vmap "
                "refuses it. Its per-record gradient is unknown. Write it with other operations, "
                "or freeze the parameter."
            ) from error
        grads: list[torch.Tensor | None] = [None] * len(needs)
        for index, grads_B in zip(wanted, pulled, strict=True):
            axis = call.layout.operands[index]
            if call.targets[index] is not None:
                call.capture(index, grads_B)
            elif axis is not None:
                grads[index] = _join(grads_B, axis)
        return grads


GENERIC = _Generic()


def _pull_each_record(
    call: Call, operands: Sequence[torch.Tensor], grad: torch.Tensor, wanted: Sequence[int]
) -> Tensors:
    axes = call.layout.operands
    split = [_split(x, axis, call.batch_size) for x, axis in zip(operands, axes, strict=True)]

    def pull(grad_one: torch.Tensor, *ones: torch.Tensor) -> Tensors:
        kept = [_keep(x, axis) for x, axis in zip(ones, axes, strict=True)]

        def run(*chosen: torch.Tensor) -> torch.Tensor:
            full = list(kept)
            for index, value in zip(wanted, chosen, strict=True):
                full[index] = value
            return call.run(full)

        vjp = torch.func.vjp(run, *[kept[index] for index in wanted])[1]
        pulled: Tensors = vjp(_keep(grad_one, call.result_axis))
        return pulled

    in_dims = (call.result_axis.dim, *[None if a is None else a.dim for a in axes])
    mapped = torch.func.vmap(pull, in_dims=in_dims)
    result: Tensors = mapped(_split(grad, call.result_axis, call.batch_size), *split)
    return result


def _split(tensor: torch.Tensor, axis: RecordAxis | None, batch_size: int) -> torch.Tensor:
    if axis is None or not axis.flattened:
        return tensor
    return split_records(tensor, axis.dim, batch_size)


def _keep(tensor: torch.Tensor, axis: RecordAxis | None) -> torch.Tensor:
    """Give one record back its record dimension, at size one (a flattened one is still there)."""
    return tensor if axis is None or axis.flattened else tensor.unsqueeze(axis.dim)


def _join(grads_B: torch.Tensor, axis: RecordAxis) -> torch.Tensor:
    if axis.flattened:
        return grads_B.movedim(0, axis.dim).flatten(axis.dim, axis.dim + 1)
    return grads_B.squeeze(axis.dim + 1).movedim(0, axis.dim)
