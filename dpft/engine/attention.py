"""Attention whose mask is made of parameters (T5's relative bias): the mask is expanded first.

Fused attention draws its dropout inside, so its per-record gradient cannot be had by running it
again. Expanded to records beforehand, the mask is met at the expansion, and the attention itself
is plain.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils._pytree import tree_flatten

from dpft.engine.tracked import is_tracked

if TYPE_CHECKING:
    from dpft.engine.interception import Interception

__all__ = ["rewrite_attention"]

_PLACES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_Rewritten = Callable[["Interception"], Any]


def rewrite_attention(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Rewritten | None:
    """Return attention with its mask expanded, None if it is not attention with a tracked mask.

    Args:
        func: The operation.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        A function of the interception that carries it out, or None.

    Privacy:
        Same values and gradients, same dropout masks
        (`tests/dpft/engine/test_exactness.py::test_dropout_masks_are_those_of_the_pass`).
    """
    if func is not functional.scaled_dot_product_attention:
        return None
    given = {**dict(zip(_PLACES, args, strict=False)), **kwargs}
    query, key, mask = given["query"], given["key"], given.get("attn_mask")
    if not is_tracked(mask) or any(is_tracked(given[name]) for name in _PLACES[:3]):
        return None

    def carry_out(interception: "Interception") -> Any:
        expand: Callable[..., Any] = torch.Tensor.expand
        flat, spec = tree_flatten(((mask, (*query.shape[:-1], key.shape[-2])), {}))
        return func(**{**given, "attn_mask": interception.carry_out(expand, flat, spec)})

    return carry_out
