"""Where each operand of an intercepted operation carries its records.

A *site* is one place where a trainable parameter meets other tensors. Its *layout* says which
dimension of each operand and of the result runs over records. Layouts are found by the probe
(`dpft.engine.probe`), never guessed from one batch's sizes. May be imported by the engine only.
"""

import dataclasses
from collections.abc import Sequence

import torch

from dpft.errors import UnsupportedError

__all__ = ["Layout", "Observation", "RecordAxis", "SiteTable", "layout_of", "split_records"]

_SiteKey = int
_Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class RecordAxis:
    """The dimension of a tensor that runs over records.

    Args:
        dim: Index of the dimension, >= 0.
        flattened: True if the dimension holds B x L entries, record after record.

    Privacy:
        Nothing, no data touched.
    """

    dim: int
    flattened: bool = False

    def fits(self, shape: _Shape, batch_size: int) -> bool:
        """Tell whether a tensor of this shape can hold `batch_size` records along this axis."""
        if self.dim >= len(shape):
            return False
        size = shape[self.dim]
        return size % batch_size == 0 if self.flattened else size == batch_size

    def records_first(self, tensor: torch.Tensor, batch_size: int) -> torch.Tensor:
        """Return a view [B, ...]; a flattened axis becomes [B, ..., L, ...] in its place."""
        if self.flattened:
            tensor = split_records(tensor, self.dim, batch_size)
        return tensor.movedim(self.dim, 0)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Record axes of a site: one entry an operand tensor, and one for the result.

    Args:
        operands: Axis of each operand tensor, None where the operand is record-free.
        result: Axis of the result, None for an expression of parameters only.

    Privacy:
        Nothing, no data touched.
    """

    operands: tuple[RecordAxis | None, ...]
    result: RecordAxis | None

    @property
    def is_boundary(self) -> bool:
        """Whether the site's result carries records."""
        return self.result is not None

    def fits(self, shapes: Sequence[_Shape], batch_size: int) -> bool:
        """Tell whether operands of these shapes agree with this layout."""
        return len(shapes) == len(self.operands) and all(
            axis is None or axis.fits(shape, batch_size)
            for axis, shape in zip(self.operands, shapes, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the probe saw at one site in one run.

    Args:
        key: Identity of the site.
        name: Name of the operation and its parameters, for messages.
        shapes: Shapes of the operand tensors.
        tainted: Whether each operand was computed from records.
        result: Shape of the result, None if the result is not a single tensor.

    Privacy:
        Shapes of a probe batch only.
    """

    key: _SiteKey
    name: str
    shapes: tuple[_Shape, ...]
    tainted: tuple[bool, ...]
    result: _Shape | None


def split_records(tensor: torch.Tensor, dim: int, batch_size: int) -> torch.Tensor:
    """Return a tensor whose dimension of B x L entries is split into B and L."""
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], batch_size, -1, *shape[dim + 1 :])


def layout_of(small: Observation, large: Observation, sizes: tuple[int, int]) -> Layout:
    """Compare one site in two runs that differ only in the number of records.

    Args:
        small: The site with sizes[0] records.
        large: The same site with sizes[1] records.
        sizes: The two numbers of records.

    Returns:
        The layout of the site.

    Raises:
        UnsupportedError: If an operand mixes records, or the axis cannot be told.

    Privacy:
        Fails closed: data derived from records without a record axis is refused
        (`tests/dpft/engine/test_refusals.py`).
    """
    operands = tuple(
        _axis(small.name, pair, sizes, tainted=a or b)
        for pair, a, b in zip(
            zip(small.shapes, large.shapes, strict=True), small.tainted, large.tainted, strict=True
        )
    )
    carries = any(axis is not None for axis in operands)
    if small.result is None or large.result is None:
        if carries:
            raise UnsupportedError(
                f"Expected {small.name} to return one tensor where it meets records. Per-record "
                "gradients of several results are not defined here. Split the operation."
            )
        return Layout(operands, None)
    result = _axis(small.name, (small.result, large.result), sizes, tainted=carries)
    return Layout(operands, result)


def _axis(
    name: str, pair: tuple[_Shape, _Shape], sizes: tuple[int, int], *, tainted: bool
) -> RecordAxis | None:
    small, large = pair
    if len(small) != len(large):
        raise _no_axis(name, pair)
    dims = [dim for dim in range(len(small)) if small[dim] != large[dim]]
    if not dims:
        if tainted:
            raise UnsupportedError(
                f"Expected every tensor computed from records to keep a record dimension at "
                f"{name}, got shape {small} for any number of records. It mixes records, so one "
                "record's gradient depends on its batch-mates. Compute it per record, or freeze "
                "the parameter."
            )
        return None
    dim = dims[0]
    if len(dims) > 1:
        raise _no_axis(name, pair)
    if (small[dim], large[dim]) == sizes:
        return RecordAxis(dim)
    if small[dim] * sizes[1] == large[dim] * sizes[0] and small[dim] % sizes[0] == 0:
        return RecordAxis(dim, flattened=True)
    raise _no_axis(name, pair)


def _no_axis(name: str, pair: tuple[_Shape, _Shape]) -> UnsupportedError:
    return UnsupportedError(
        f"Expected one dimension of every operand of {name} to run over records, got shapes "
        f"{pair[0]} and {pair[1]} for two batches. Records of unequal length on one axis, or "
        "records on two axes, cannot be told apart. Keep records on a dimension of their own."
    )


class SiteTable:
    """Layouts of all sites of one model for one kind of batch.

    Args:
        layouts: Layouts seen for each site key; more than one if a site is used in several ways.

    Privacy:
        Lookup never guesses: an unknown or ambiguous site raises.
    """

    def __init__(self, layouts: dict[_SiteKey, frozenset[Layout]]) -> None:
        """Keep the layouts."""
        self.layouts = layouts

    def find(self, key: _SiteKey, name: str, shapes: Sequence[_Shape], batch_size: int) -> Layout:
        """Return the layout of a site.

        Raises:
            UnsupportedError: If the site was not seen by the probe, or fits two layouts.
        """
        known = self.layouts.get(key, frozenset())
        if len(known) == 1:
            (layout,) = known
            if layout.fits(shapes, batch_size):
                return layout
        fitting = [layout for layout in known if layout.fits(shapes, batch_size)]
        if len(fitting) == 1:
            return fitting[0]
        problem = "is used in two ways that these sizes do not tell apart" if fitting else "is new"
        raise UnsupportedError(
            f"Expected {name} with operand shapes {list(shapes)} to be known from the probe; it "
            f"{problem}. The record dimension is never guessed. Make the model's control flow "
            "independent of the records, or freeze the parameter."
        )
