"""Ragged tensors: those whose number of rows the records themselves decide.

`hidden[labels != -100]` puts records of unequal length on one axis. In the probe's few copies the
lengths may be equal by coincidence, and in a later batch they are not, so such an axis is refused
wherever it meets a trainable parameter, until the model itself gives records a dimension again,
having compared their numbers of rows before (a reshape alone hides who has how many).

What a model computes of records in Python, by `tolist` and its like, cannot be followed: after it,
masks and `torch.cat` along the first dimension count as ragged too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

__all__ = ["Ragged"]

_SELECTIONS = frozenset(
    {
        "masked_select",
        "nonzero",
        "nonzero_static",
        "argwhere",
        "bincount",
        "_pack_padded_sequence",
    }
)
_TOLD = frozenset({"tolist", "item", "numpy", "__array__", "__int__", "__index__"})
_JOINS = frozenset({"cat", "concat", "concatenate", "vstack", "row_stack"})
_RESHAPES = frozenset({"view", "reshape"})
_MASKS = frozenset({torch.bool, torch.uint8})
_WRITES = ("masked_scatter", "index_put", "index_copy", "index_add", "scatter", "__setitem__")


class Ragged:
    """Follows ragged tensors through one run of the probe.

    Args:
        from_records: Tells whether a tensor was computed from the batch.
        records: Number of records in the batch.

    Privacy:
        Keeps references to raw tensors until the probe ends; nothing is released.
    """

    def __init__(self, from_records: Callable[[torch.Tensor], bool], records: int) -> None:
        """Start with none."""
        self._records = records
        self._from_records = from_records
        self._found: dict[int, torch.Tensor] = {}
        self._is_told = False  # whether Python knows of records
        self._is_compared = False  # whether the model asked how many different values there are

    def has(self, tensor: torch.Tensor) -> bool:
        """Tell whether records decided how many rows a tensor has."""
        return id(tensor) in self._found

    def follow(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        operands: Sequence[torch.Tensor],
        results: Sequence[torch.Tensor],
    ) -> None:
        """Note which results of an operation are ragged.

        Args:
            func: The operation.
            args: Its arguments, positional ones first.
            operands: All tensors among its arguments.
            results: The tensors that it returned.
        """
        name = getattr(func, "__name__", "")
        self._is_told |= name in _TOLD
        self._is_compared |= "unique" in name
        if name.startswith(_WRITES):  # the result has the shape of what is written to
            operands = [*operands[:1], *self._written_alike(name, args)]
            results = [*results, *operands[:1]] if name == "__setitem__" else results
        if name in _RESHAPES:
            results = [result for result in results if not self._is_evened(args, result)]
        if self._selects(name, args) or any(self.has(operand) for operand in operands):
            self._found.update({id(result): result for result in results if result.dim()})

    def _is_evened(self, args: Sequence[Any], result: torch.Tensor) -> bool:
        """Whether a reshape says by itself how many records there are, and where."""
        sizes = args[1] if isinstance(args[1], tuple | list) else args[1:]
        is_told = isinstance(sizes[0], int) and sizes[0] == self._records
        return self._is_compared and is_told and result.dim() > args[0].dim()

    def _written_alike(self, name: str, args: Sequence[Any]) -> list[torch.Tensor]:
        """Return the value written, if it lies there as it did before: no record says where."""
        place = 3 if name.startswith(("index_copy", "index_add", "scatter")) else 2
        values = [i for i in args[place : place + 1] if isinstance(i, torch.Tensor)]
        keys = [i for i in tree_leaves(args[1:place]) if isinstance(i, torch.Tensor)]
        if any(self._from_records(key) for key in keys):
            return []
        return [value for value in values if value.dim() >= args[0].dim()]

    def _selects(self, name: str, args: Sequence[Any]) -> bool:
        if name == "__getitem__":
            chosen = [i for i in tree_leaves(args[1]) if isinstance(i, torch.Tensor)]
            masks = [i for i in chosen if i.dtype in _MASKS and i.dim()]
            return any(self._is_told or self._from_records(mask) for mask in masks)
        if name == "repeat_interleave":
            repeats = [i for i in args[1:] or args if isinstance(i, torch.Tensor)]
            return any(self._from_records(i) for i in repeats)
        if name in _JOINS:  # pieces of which Python may know how long each is
            return self._is_told and (len(args) == 1 or args[1] == 0)
        return name in _SELECTIONS or "unique" in name or (name == "where" and len(args) == 1)
