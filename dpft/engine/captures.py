"""The state of one backward pass: per-record gradients as boundaries capture them.

One `StepState` lives for one physical batch. Boundaries reach it from their autograd context,
never through a global or a thread-local, because recomputation under activation checkpointing may
run on another thread.
"""

from typing import TYPE_CHECKING

import torch

from dpft.errors import BrokenGuaranteeError

if TYPE_CHECKING:
    from dpft.engine.sites import SiteTable

__all__ = ["StepState"]

_Target = tuple[str, int]  # ("leaf", id of the parameter) or ("expression", index)


class StepState:
    """Accumulates per-record gradients over all sites of one physical batch.

    Args:
        batch_size: Number of records B, >= 1.
        parameters: Attached parameters by name.
        table: Layouts of the model's sites.

    Privacy:
        Holds raw per-record gradients: never logged, saved or returned outside the engine. Sums
        over sites are taken before any norm, so sharing a parameter cannot exceed the clip norm
        (`tests/dpft/engine/test_sharing.py::test_shared_parameters_sum_before_the_norm`).
    """

    def __init__(
        self, batch_size: int, parameters: dict[str, torch.nn.Parameter], table: "SiteTable"
    ) -> None:
        """Start with nothing captured."""
        self.batch_size = batch_size
        self.table = table
        self.closed = False
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._raw_leaves: dict[int, torch.Tensor] = {}
        self._expressions: list[torch.Tensor] = []
        self._indices: dict[int, int] = {}
        self._raw_expressions: dict[int, torch.Tensor] = {}

    def target(self, tensor: torch.Tensor) -> _Target:
        """Return where gradients of a tracked tensor (plain view) are accumulated."""
        if tensor.is_leaf:
            return ("leaf", id(tensor))
        if id(tensor) not in self._indices:
            self._indices[id(tensor)] = len(self._expressions)
            self._expressions.append(tensor)  # kept alive, so that its id stays its own
        return ("expression", self._indices[id(tensor)])

    def capture(self, target: _Target, grads_B: torch.Tensor) -> None:
        """Add the per-record gradient [B, *shape] of one site to its target.

        Raises:
            BrokenGuaranteeError: If the pass is already over (a second backward through its graph).
        """
        if self.closed:
            raise BrokenGuaranteeError(
                "Expected one backward pass per physical batch. A second pass through the same "
                "graph would count records twice. Call the loss once and do not keep its graph."
            )
        if grads_B.dtype in (torch.float16, torch.bfloat16):
            grads_B = grads_B.float()
        kind, index = target
        store = self._raw_leaves if kind == "leaf" else self._raw_expressions
        store[index] = store[index] + grads_B if index in store else grads_B

    def finish(self) -> dict[str, torch.Tensor]:
        """Close the pass and return the raw per-record gradients [B, *shape] by parameter name."""
        self.closed = True
        for index, grads in self._raw_expressions.items():
            self._pull_back(self._expressions[index], grads)
        raw = {self._names[leaf]: grads for leaf, grads in self._raw_leaves.items()}
        self._raw_leaves, self._raw_expressions, self._expressions = {}, {}, []
        self._indices = {}
        return raw

    def _pull_back(self, expression: torch.Tensor, grads: torch.Tensor) -> None:
        leaves = self._leaves(expression)
        grads = grads.to(expression.dtype).reshape(self.batch_size, *expression.shape)
        pulled = torch.autograd.grad(
            expression, leaves, grads, is_grads_batched=True, retain_graph=True, allow_unused=True
        )
        for leaf, grad in zip(leaves, pulled, strict=True):
            if grad is not None:
                known = self._raw_leaves.get(id(leaf))
                self._raw_leaves[id(leaf)] = grad if known is None else known + grad

    def _leaves(self, expression: torch.Tensor) -> list[torch.Tensor]:
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
        strangers = [leaf for leaf in leaves if id(leaf) not in self._names]
        if strangers:
            raise BrokenGuaranteeError(
                f"Expected every expression of parameters to end in attached parameters, found "
                f"{len(strangers)} other leaves, the first of shape {tuple(strangers[0].shape)}. "
                "Its gradient would by-pass clipping. Give all trainable tensors to the optimiser "
                "before training starts."
            )
        return leaves
