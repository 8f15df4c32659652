"""Arguments of normalising functions by name, wherever they were passed."""

from collections.abc import Sequence
from typing import Any

import torch

from dpft.engine.boundary import Call

__all__ = ["named_arguments", "records_are_outside"]


class _Place:
    """Stands for operand number `index` while arguments are sorted by name."""

    def __init__(self, index: int) -> None:
        self.index = index


def named_arguments(
    call: Call, names: Sequence[str], operands: Sequence[torch.Tensor | None]
) -> dict[str, Any]:
    """Return the arguments of a call by name, and the name of each operand under "roles".

    Args:
        call: The call.
        names: Names of the positional arguments; the second is the normalised shape.
        operands: What to put in the operands' places.
    """
    places = [_Place(index) for index in range(len(call.positions))]
    args, kwargs = call.arguments(places)
    named: dict[str, Any] = dict.fromkeys(names)
    named.update(zip(names, args, strict=False))
    named.update({(names[1] if k == "normalized_shape" else k): v for k, v in kwargs.items()})
    roles = [""] * len(places)
    for role, value in named.items():
        if isinstance(value, _Place):
            roles[value.index] = role
            named[role] = operands[value.index]
    return {**named, "roles": roles}


def records_are_outside(call: Call, normalised: int) -> bool:
    """Tell whether the first operand's records lie outside the last `normalised` dimensions."""
    axis = call.layout.operands[0]
    return (
        axis is not None
        and axis.dim < call.operands[0].dim() - normalised
        and all(other is None for other in call.layout.operands[1:])
    )
