"""y = xhat * weight + bias over the last dimensions, where x carries records."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from dpft.engine.boundary import Call, Gradients, Tensors
from dpft.engine.rules.norm_arguments import named_arguments, records_are_outside

__all__ = ["LAYER_NORM", "layer_norm_applies"]

_NAMES = ("input", "shape", "weight", "bias", "eps")
_EPS = 1e-5  # torch's default


class _LayerNorm:
    """F.layer_norm: operand 0 is x, then the weight and the bias where given."""

    def forward(self, call: Call, operands: Tensors) -> tuple[torch.Tensor, Gradients]:
        """Normalise; keep x, its statistics and the weight, as the plain operation does."""
        if call.autocast is not None and operands[0].is_cuda:
            operands = tuple(operand.float() for operand in operands)  # as autocast does there
        settings = _named(call, operands)
        result, mean, rstd = torch.ops.aten.native_layer_norm(
            operands[0], settings["shape"], settings["weight"], settings["bias"], settings["eps"]
        )
        return result, (operands[0], mean, rstd, settings["weight"])

    def backward(
        self, call: Call, saved: Gradients, grad: torch.Tensor, needs: Sequence[bool]
    ) -> Gradients:
        """Capture token sums of g * xhat and g; return the data's gradient."""
        data, mean, rstd, weight = saved
        assert data is not None and mean is not None and rstd is not None  # noqa: PT018 - saved
        settings = _named(call, [None] * len(call.positions))
        shape = list(settings["shape"])
        for index, role in enumerate(settings["roles"]):
            if call.targets[index] is not None and role in ("weight", "bias"):
                share = grad * ((data - mean) * rstd) if role == "weight" else grad
                first = call.records_first(0, share)
                call.capture(index, first.reshape(call.batch_size, -1, *shape).sum(1))
        grads: list[torch.Tensor | None] = [None] * len(needs)
        if needs[0]:
            grads[0] = torch.ops.aten.native_layer_norm_backward(
                grad.contiguous(), data, shape, mean, rstd, weight, None, [True, False, False]
            )[0]
        return grads


LAYER_NORM = _LayerNorm()


def layer_norm_applies(call: Call) -> bool:
    """Whether the call is F.layer_norm whose records lie outside the normalised dimensions."""
    if call.func not in (functional.layer_norm, torch.layer_norm):
        return False
    return records_are_outside(call, len(_named(call, call.operands)["shape"]))


def _named(call: Call, operands: Sequence[torch.Tensor | None]) -> dict[str, Any]:
    named = named_arguments(call, _NAMES, operands)
    return {**named, "eps": _EPS if named["eps"] is None else named["eps"]}
