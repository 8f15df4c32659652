"""From gradients of an expression of parameters to gradients of the parameters themselves.

Shapes: B records; an expression's gradients are [B, *shape of the expression].
"""

from collections.abc import Sequence

import torch

__all__ = ["leaves_of", "pull_back"]


def leaves_of(expression: torch.Tensor) -> list[torch.Tensor]:
    """Return the differentiable leaves that an expression was computed from, each once."""
    seen: set[object] = set()
    leaves: list[torch.Tensor] = []
    pending = [expression.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        pending.extend(previous for previous, _ in node.next_functions)
    return leaves


def pull_back(
    expression: torch.Tensor, leaves: Sequence[torch.Tensor], grads: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Return each record's gradient of the leaves, [B, *shape of the leaf], None where unused.

    Args:
        expression: The expression; its graph is kept.
        leaves: Its leaves.
        grads: Gradients of the expression, one a record.

    Privacy:
        Raw.
    """
    grads = grads.to(expression.dtype).reshape(-1, *expression.shape)
    pulled: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
        expression, leaves, grads, is_grads_batched=True, retain_graph=True, allow_unused=True
    )
    return pulled
