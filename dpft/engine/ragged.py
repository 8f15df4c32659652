"""Ragged tensors: those whose number of rows the records themselves decide.

`hidden[labels != -100]` puts records of unequal length on one axis. In the probe's few copies the
lengths may be equal by coincidence, and in a later batch they are not, so such an axis is refused
wherever it meets a trainable parameter, until the model itself gives records a dimension again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["Ragged"]

_SELECTIONS = frozenset({"masked_select", "nonzero", "argwhere", "bincount"})
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
            args: Its positional arguments.
            operands: All tensors among its arguments.
            results: The tensors that it returned.
        """
        name = getattr(func, "__name__", "")
        if name.startswith(_WRITES):  # the result has the shape of what is written to
            operands = operands[:1]
        if name in _RESHAPES:
            results = [result for result in results if not self._is_evened(args, result)]
        if self._selects(name, args) or any(self.has(operand) for operand in operands):
            self._found.update({id(result): result for result in results if result.dim()})

    def _is_evened(self, args: Sequence[Any], result: torch.Tensor) -> bool:
        """Whether a reshape says by itself how many records there are, and where."""
        sizes = args[1] if isinstance(args[1], tuple | list) else args[1:]
        is_told = isinstance(sizes[0], int) and sizes[0] == self._records
        return is_told and result.dim() > args[0].dim()

    def _selects(self, name: str, args: Sequence[Any]) -> bool:
        if name == "__getitem__":
            chosen = args[1] if isinstance(args[1], tuple) else (args[1],)
            masks = [i for i in chosen if isinstance(i, torch.Tensor) and i.dtype in _MASKS]
            return any(mask.dim() and self._from_records(mask) for mask in masks)
        if name == "repeat_interleave":
            return any(isinstance(i, torch.Tensor) and self._from_records(i) for i in args[1:])
        return name in _SELECTIONS or "unique" in name or (name == "where" and len(args) == 1)
