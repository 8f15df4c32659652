"""What one backward pass leaves: every record's gradient, in whichever form is cheaper.

Shapes: B records; a gradient is [B, *shape].
"""

import dataclasses
from collections.abc import Mapping

import torch

from dpft.engine.forms import ghost_is_cheaper
from dpft.engine.grouping import Grouping
from dpft.engine.outer import Outer, gram_products, raw_squared_norms, row_norms

__all__ = ["LeafGradients", "RecordGradients", "zero_sums"]


@dataclasses.dataclass
class LeafGradients:
    """Per-record gradients of one parameter, summed over its sites.

    Args:
        full: [B, *shape], or None if no site was instantiated.
        outers: Sites kept as outer products.

    Privacy:
        Raw.
    """

    full: torch.Tensor | None = None
    outers: list[Outer] = dataclasses.field(default_factory=list)

    def add(self, grads_B: torch.Tensor) -> None:
        """Add a site's gradients, given in full; 16-bit ones are widened first."""
        if grads_B.dtype in (torch.float16, torch.bfloat16):
            grads_B = grads_B.float()
        self.full = grads_B if self.full is None else self.full + grads_B

    def add_records(self, grads: torch.Tensor, chosen: slice, batch_size: int) -> None:
        """Add a site's gradients of some of the records."""
        if len(grads) == batch_size:
            self.add(grads)
            return
        wide = torch.promote_types(grads.dtype, torch.float32)
        grads_B = grads.new_zeros(batch_size, *grads.shape[1:], dtype=wide)
        if self.full is not None:
            grads_B, self.full = self.full.to(wide, copy=True), None
        grads_B[chosen] += grads
        self.full = grads_B

    def joined(self, grouping: Grouping) -> "LeafGradients":
        """Return each user's sum over that user's records, [U, *shape], in the same form."""
        sums = None
        if self.full is not None:
            sums = self.full.new_zeros(grouping.count, *self.full.shape[1:])
            sums.index_add_(0, grouping.owners_B(), self.full)
        return LeafGradients(sums, [outer.joined(grouping) for outer in self.outers])

    def settle(self) -> None:
        """Choose one form for all sites together: the sum stands before any norm."""
        if not self.outers:
            return
        one = self.outers[0]
        products = gram_products(self.outers)
        if self.full is None and ghost_is_cheaper(products, one.shape, one.batch_size):
            return
        for outer in self.outers:
            grads_B = outer.instantiated()
            self.add(grads_B if self.full is None else grads_B.reshape(self.full.shape))
        self.outers = []

    def raw_squared_norms(self) -> torch.Tensor:
        """Return the squared l2 norm [B] in float32 or better."""
        if self.full is None:
            return raw_squared_norms(self.outers)
        return row_norms(_rows(self.full)).square()

    def add_weighted(self, factors_B: torch.Tensor, raw_sum: torch.Tensor) -> None:
        """Add sum_b factors_b G_b; a record of factor zero adds exactly zero."""
        if self.full is None:
            for outer in self.outers:
                outer.add_weighted(factors_B, raw_sum)
            return
        rows = _rows(self.full).to(raw_sum.dtype)
        rows = rows.masked_fill(~(factors_B > 0).unsqueeze(1), 0.0)
        raw_sum += (factors_B.to(rows.dtype) @ rows).view_as(raw_sum)


class RecordGradients:
    """Raw per-record gradients of one physical batch.

    Args:
        leaves: Gradients by name of the parameter; parameters that were not reached are absent.

    Privacy:
        Raw: only clipping and tests may see it. Each parameter's sites are summed before the norm
        (`tests/dpft/engine/test_sharing.py::test_shared_parameters_sum_before_the_norm`).
    """

    def __init__(self, leaves: Mapping[str, LeafGradients]) -> None:
        """Choose the form of every parameter."""
        self._leaves = leaves
        for leaf in leaves.values():
            leaf.settle()

    @classmethod
    def of(cls, raw: Mapping[str, torch.Tensor]) -> "RecordGradients":
        """Wrap gradients given in full, {name: [B, *shape]}."""
        return cls({name: LeafGradients(grads_B) for name, grads_B in raw.items()})

    def joined(self, grouping: Grouping) -> "RecordGradients":
        """Return the gradients of users: row u is the sum over the records of user u.

        Args:
            grouping: Whose records they are.

        Privacy:
            Raw. Records are added up before any norm, cross terms of ghost norms included
            (`tests/dpft/test_joint_gradients.py`).
        """
        return RecordGradients({name: leaf.joined(grouping) for name, leaf in self._leaves.items()})

    def raw_norms(self) -> torch.Tensor | None:
        """Return the l2 norm [B] of every record's whole gradient, None if there is none."""
        squares = [leaf.raw_squared_norms() for leaf in self._leaves.values()]
        return torch.stack(squares).sum(0).sqrt() if squares else None

    def add_weighted(self, factors_B: torch.Tensor, raw_sums: Mapping[str, torch.Tensor]) -> None:
        """Add sum_b factors_b G_b to the sum of every parameter, in place."""
        for name, leaf in self._leaves.items():
            leaf.add_weighted(factors_B, raw_sums[name])

    def instantiated(self) -> dict[str, torch.Tensor]:
        """Return {name: gradients [B, *shape]} in full."""
        return {
            name: _in_full(leaf) if leaf.full is None else leaf.full
            for name, leaf in self._leaves.items()
        }

    @property
    def ghosts(self) -> frozenset[str]:
        """Names of the parameters whose gradients are not formed in full."""
        return frozenset(name for name, leaf in self._leaves.items() if leaf.full is None)


def zero_sums(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return zeros for every parameter, in float32 or better, to add weighted gradients to."""
    return {
        name: torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32))
        for name, p in parameters.items()
    }


def _in_full(leaf: LeafGradients) -> torch.Tensor:
    """Return the sum of all sites in full."""
    return torch.stack([outer.instantiated() for outer in leaf.outers]).sum(0)


def _rows(grads: torch.Tensor) -> torch.Tensor:
    """Return gradients as a matrix in float32 or better, one row a record; a scalar's too."""
    rows = grads.reshape(len(grads), -1)
    return rows.to(torch.promote_types(rows.dtype, torch.float32))
