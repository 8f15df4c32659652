"""The state of one backward pass: per-record gradients as boundaries capture them.

One `StepState` lives for one physical batch. Boundaries reach it from their autograd context,
never through a global or a thread-local, because recomputation under activation checkpointing may
run on another thread.
"""

import dataclasses
from typing import TYPE_CHECKING

import torch

from dpft.engine.forms import ghost_is_cheaper
from dpft.engine.outer import Outer, gram_products
from dpft.engine.pull_back import leaves_of, pull_back
from dpft.engine.record_gradients import LeafGradients, RecordGradients
from dpft.errors import BrokenGuaranteeError

if TYPE_CHECKING:
    from dpft.engine.sites import SiteTable

__all__ = ["StepState", "Target"]

_MAX_CHUNK = 2**24  # entries of per-record gradients of an expression at a time; 64 MiB in float32


@dataclasses.dataclass(frozen=True)
class Target:
    """Where gradients of a tracked tensor are accumulated.

    Args:
        key: Id of the parameter, or index of the expression.
        is_leaf: Whether it is a parameter.
        transposed: Whether the tensor is the parameter's transpose.

    Privacy:
        Nothing, no data touched.
    """

    key: int
    is_leaf: bool
    transposed: bool = False


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
        self.capturing = False  # set when the engine's own backward pass begins
        self.closed = False
        self.precisions: set[torch.dtype] = set()  # those that autocast chose
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._leaves: dict[int, LeafGradients] = {}
        self._expressions: list[torch.Tensor] = []
        self._indices: dict[int, int] = {}
        self._raw_expressions: dict[int, torch.Tensor] = {}

    def target(self, tensor: torch.Tensor) -> Target:
        """Return where gradients of a tracked tensor are accumulated."""
        if tensor.is_leaf:
            return Target(id(tensor), is_leaf=True)
        transpose_of = getattr(tensor, "dpft_transpose_of", None)
        if transpose_of is not None:
            return Target(id(transpose_of), is_leaf=True, transposed=True)
        if id(tensor) not in self._indices:
            self._indices[id(tensor)] = len(self._expressions)
            self._expressions.append(tensor)  # kept alive, so that its id stays its own
        return Target(self._indices[id(tensor)], is_leaf=False)

    def capture(self, target: Target, grads_B: torch.Tensor) -> None:
        """Add the per-record gradient [B, *shape] of one site to its target.

        Raises:
            BrokenGuaranteeError: If the pass is already over (a second backward through its graph).
        """
        self._refuse_closed()
        if target.is_leaf:
            leaf = self._leaves.setdefault(target.key, LeafGradients())
            leaf.add(grads_B.transpose(1, 2) if target.transposed else grads_B)
        elif self._is_dense(target):
            self._pull_back(target, grads_B, slice(None))
        elif target.key in self._raw_expressions:
            self._raw_expressions[target.key] = self._raw_expressions[target.key] + grads_B
        else:
            self._raw_expressions[target.key] = grads_B

    def capture_outer(self, target: Target, outer: Outer) -> None:
        """Add the gradient of one site that is a sum of outer products, in the cheaper form.

        Raises:
            BrokenGuaranteeError: If the pass is already over.
        """
        self._refuse_closed()
        if target.is_leaf and ghost_is_cheaper(
            gram_products([outer]), outer.shape, self.batch_size
        ):
            leaf = self._leaves.setdefault(target.key, LeafGradients())
            leaf.outers.append(outer.transposed() if target.transposed else outer)
        elif not target.is_leaf and self._is_dense(target):
            size = max(1, _MAX_CHUNK // self._expressions[target.key].numel())
            for start in range(0, self.batch_size, size):
                chosen = slice(start, min(start + size, self.batch_size))
                self._pull_back(target, outer.records(chosen).instantiated(), chosen)
        else:
            self.capture(target, outer.instantiated())

    def finish(self) -> RecordGradients:
        """Close the pass and return the gradients by parameter name."""
        self.closed = True
        for index, grads in self._raw_expressions.items():
            self._pull_back(Target(index, is_leaf=False), grads, slice(None))
        found = RecordGradients({self._names[leaf]: g for leaf, g in self._leaves.items()})
        self._leaves, self._raw_expressions, self._expressions = {}, {}, []
        self._indices = {}
        return found

    def _refuse_closed(self) -> None:
        if not self.capturing:
            raise BrokenGuaranteeError(
                "Expected no backward pass inside the loss. Its gradients would be added to the "
                "records' own. Compute the loss without torch.autograd.grad, or detach the "
                "parameters for it."
            )
        if self.closed:
            raise BrokenGuaranteeError(
                "Expected one backward pass per physical batch. A second pass through the same "
                "graph would count records twice. Call the loss once and do not keep its graph."
            )

    def _is_dense(self, target: Target) -> bool:
        """Whether an expression is larger than the parameters that it was made of."""
        expression = self._expressions[target.key]
        return expression.numel() > sum(leaf.numel() for leaf in self._known_leaves(expression))

    def _known_leaves(self, expression: torch.Tensor) -> list[torch.Tensor]:
        leaves = leaves_of(expression)
        strangers = [leaf for leaf in leaves if id(leaf) not in self._names]
        if strangers:
            raise BrokenGuaranteeError(
                f"Expected every expression of parameters to end in attached parameters, found "
                f"{len(strangers)} other leaves, the first of shape {tuple(strangers[0].shape)}. "
                "Its gradient would by-pass clipping. Give all trainable tensors to the optimiser "
                "before training starts."
            )
        return leaves

    def _pull_back(self, target: Target, grads: torch.Tensor, chosen: slice) -> None:
        """Add what some records' gradients of an expression give for its parameters."""
        expression = self._expressions[target.key]
        leaves = self._known_leaves(expression)
        for leaf, grad in zip(leaves, pull_back(expression, leaves, grads), strict=True):
            if grad is not None:
                self._leaves.setdefault(id(leaf), LeafGradients()).add_records(
                    grad, chosen, self.batch_size
                )
