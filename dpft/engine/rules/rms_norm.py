"""y = x / rms(x) * weight over the last dimensions, where x carries records."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from dpft.engine.boundary import Call, Gradients, Tensors
from dpft.engine.rules.norm_arguments import named_arguments, records_are_outside

__all__ = ["RMS_NORM", "rms_norm_applies"]

_NAMES = ("input", "shape", "weight", "eps")


class _RmsNorm:
    """F.rms_norm: operand 0 is x, operand 1 the weight."""

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Normalise; keep x and the weight, as the plain operation does."""
        return call.run(operands), operands

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture token sums of g * xhat; return the data's gradient."""
        data, weight = saved
        assert data is not None
        named = named_arguments(call, _NAMES, saved)
        shape, eps = list(named["shape"]), named["eps"]
        if call.targets[1] is not None:
            share = grad * functional.rms_norm(data, shape, None, eps)
            first = call.records_first(0, share)
            call.capture(1, first.reshape(call.batch_size, -1, *shape).sum(1))
        if not needs[0]:
            return [None, None]
        with call.same_precision():
            pull = torch.func.vjp(
                lambda x: functional.rms_norm(x, shape, weight, eps), data.detach()
            )[1]
            return [pull(grad)[0], None]


RMS_NORM = _RmsNorm()


def rms_norm_applies(call: Call) -> bool:
    """Whether the call is F.rms_norm(x, shape, weight) with records outside the shape."""
    if call.func not in (functional.rms_norm, torch.rms_norm) or len(call.operands) != len("xw"):
        return False
    shape = named_arguments(call, _NAMES, call.operands)["shape"]
    return records_are_outside(call, len(shape))
