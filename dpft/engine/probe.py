"""The probe: which operands of which sites carry records.

The loss is run on a _few copies of the batch's records, once with two and once with three of them,
while every tensor computed from the batch is followed (its *taint*). An operand that changes its
size with the number of records carries them on that dimension; a tainted operand that does not has
mixed them, and is refused. A [T, T] index is therefore never taken for a batch, even when T
equals B. Results are cached per model and kind of batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from dpft.engine.in_place import writes_in_place
from dpft.engine.ragged import Ragged
from dpft.engine.sites import Layout, Observation, SiteTable, layout_of
from dpft.errors import UnsupportedError

__all__ = ["Recorder", "Taint", "kind_of_batch", "probe", "untouched"]

_Batch = Mapping[str, torch.Tensor]
_SIZES = (2, 3)
_MASKS = ("attention_mask", "decoder_attention_mask")
_MAX_PASSES = 8  # each pass settles the boundaries one expansion further downstream


class Taint(TorchFunctionMode):
    """Follows every tensor computed from the batch, by the storage it lives in.

    Args:
        batch: The batch; its tensors are tainted to start with.

    Privacy:
        Keeps references to raw tensors until the probe ends; nothing is released.
    """

    def __init__(self, batch: _Batch) -> None:
        """Taint the batch."""
        super().__init__()
        self._storages: set[int] = set()
        self.ragged = Ragged(self.has, len(next(iter(batch.values()))))
        self._alive: list[torch.Tensor] = []  # a freed storage's address could be used again
        self.add(list(batch.values()))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operation; taint its result, and what it wrote to, if an operand is tainted."""
        result = func(*args, **(kwargs or {}))
        operands = _tensors((args, kwargs))
        clean = [operand for operand in operands if not self.has(operand)]
        if len(clean) < len(operands):
            writes = writes_in_place(getattr(func, "__name__", ""))
            written = _tensors((result, args[:1] if writes else ()))
            self.add(written if writes else [t for t in written if not _is_view_of(t, clean)])
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - torch offers no other
                given = (*args, *(kwargs or {}).values())
                self.ragged.follow(func, given, operands, _tensors(result))
        return result

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Taint tensors."""
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - torch offers no other
            self._alive.extend(tensors)
            self._storages.update(_storage(tensor) for tensor in tensors if tensor.numel())

    def has(self, tensor: torch.Tensor) -> bool:
        """Tell whether a tensor was computed from the batch."""
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - torch offers no other
            return bool(tensor.numel()) and _storage(tensor) in self._storages


def _storage(tensor: torch.Tensor) -> int:
    identity: int = tensor.untyped_storage()._cdata  # noqa: SLF001 - a storage has no other identity
    return identity


def _is_view_of(tensor: torch.Tensor, others: Sequence[torch.Tensor]) -> bool:
    """Whether a tensor shows another one's memory: a mere view of a constant, as by expand_as."""
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - torch offers no other
        return bool(tensor.numel()) and any(
            _storage(tensor) == _storage(other) for other in others if other.numel()
        )


def _tensors(tree: object) -> list[torch.Tensor]:
    flat, _ = tree_flatten(tree)
    return [value for value in flat if isinstance(value, torch.Tensor)]


class Recorder:
    """Writes down what happens at each site in one run of the probe.

    Args:
        taint: Tells which operands were computed from records.
        known: Layouts found by earlier passes.

    Privacy:
        Keeps shapes only.
    """

    def __init__(self, taint: Taint, known: Mapping[int, frozenset[Layout]]) -> None:
        """Start with no observation."""
        self.observations: list[Observation] = []
        self.taint = taint
        self._known = known

    def observe(
        self, key: int, name: str, operands: Sequence[torch.Tensor], result: Any
    ) -> tuple[Any, bool]:
        """Note one site.

        Returns:
            The result, and whether it carries records; if so it is tainted, and it is a copy where
            it would share the memory of a parameter.

        Raises:
            UnsupportedError: If records decided how many rows an operand has.
        """
        if any(self.taint.ragged.has(operand) for operand in operands):
            raise _ragged(name)
        tainted = tuple(self.taint.has(operand) for operand in operands)
        shapes = tuple(tuple(operand.shape) for operand in operands)
        shape = tuple(result.shape) if isinstance(result, torch.Tensor) else None
        self.observations.append(Observation(key, name, shapes, tainted, shape))
        meets_records = any(tainted) or self._known_to_expand(key, shapes)
        if meets_records and isinstance(result, torch.Tensor):
            result = result.clone() if _is_view_of(result, operands) else result
            self.taint.add([result])
        return result, meets_records

    def _known_to_expand(self, key: int, shapes: Sequence[tuple[int, ...]]) -> bool:
        return any(
            layout.is_boundary and layout.fits(shapes, _implied_batch(layout, shapes))
            for layout in self._known.get(key, frozenset())
        )


def _ragged(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"Expected the operands of {name} to have as many rows for one record as for any other. "
        "Records of unequal length on one axis, as in hidden[mask], cannot be told apart. Keep "
        "records on a dimension of their own, and mask the losses instead."
    )


def _implied_batch(layout: Layout, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the number of records that the operands' own sizes imply, 1 if none carries them."""
    for axis, shape in zip(layout.operands, shapes, strict=False):
        if axis is not None and not axis.flattened and axis.dim < len(shape):
            return shape[axis.dim]
    return 1


def probe(
    model: nn.Module,
    loss: Callable[[nn.Module, _Batch], torch.Tensor],
    batch: _Batch,
    run: Callable[[Recorder], Any],
) -> SiteTable:
    """Find the layout of every site of a model for this kind of batch.

    Args:
        model: The attached model; its buffers are restored afterwards.
        loss: The per-record loss.
        batch: Tensors whose first dimension runs over records, at least one record.
        run: Context manager factory that makes an attachment record into a recorder.

    Returns:
        The table of layouts.

    Raises:
        UnsupportedError: If the sites depend on the number of records, or an axis cannot be told.

    Privacy:
        Runs on raw records; keeps shapes only. The random state is forked, buffers are restored.
    """
    known: dict[int, frozenset[Layout]] = {}
    for _ in range(_MAX_PASSES):
        small, large = (_run(model, loss, _few(batch, size), run, known) for size in _SIZES)
        found, refusals = _compare(small, large)
        if found == known and refusals:
            raise refusals[0]
        if found == known:
            return SiteTable(known)
        known = found
    raise UnsupportedError(
        f"Expected the record dimensions of all sites to settle within {_MAX_PASSES} passes. "
        "Expressions of parameters are expanded over records too often in a row. Freeze some of "
        "the parameters."
    )


def _few(batch: _Batch, size: int) -> dict[str, torch.Tensor]:
    """Return `size` records made of copies of the batch's own; the last is shorter if any was."""
    rows = {}
    for name, tensor in batch.items():
        index = torch.arange(size, device=tensor.device) % tensor.shape[0]
        rows[name] = tensor[index].clone()
    for name in _padded_masks(batch):
        rows[name][-1, -1] = 0
    return rows


def _padded_masks(batch: _Batch) -> tuple[str, ...]:
    """Return which masks hide something: models leave a mask out that hides nothing."""
    masks = (name for name, value in batch.items() if name in _MASKS and value.dim() == 2)
    return tuple(sorted(name for name in masks if not bool(batch[name].all())))


def kind_of_batch(batch: _Batch) -> tuple[object, ...]:
    """Return what a table is cached by: names, ranks and types of tensors, and which masks hide."""
    named = sorted((name, value.dim(), str(value.dtype)) for name, value in batch.items())
    return (*named, _padded_masks(batch))


def _run(
    model: nn.Module,
    loss: Callable[[nn.Module, _Batch], torch.Tensor],
    batch: _Batch,
    run: Callable[[Recorder], Any],
    known: Mapping[int, frozenset[Layout]],
) -> list[Observation]:
    taint = Taint(batch)
    recorder = Recorder(taint, known)
    with untouched(model), run(recorder), torch.enable_grad(), taint:
        losses = loss(model, batch)
        if not taint.has(losses):
            raise UnsupportedError(
                "Expected the losses to be computed from the batch. They do not depend on any "
                "record. Return one loss a record from the loss function."
            )
        # Recomputation must run where the taint is followed, which is this thread alone.
        with torch.autograd.set_multithreading_enabled(mode=False):
            torch.autograd.backward(losses.sum())
    return recorder.observations


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore buffers and the random state, and delete gradients, at the end.

    Privacy:
        What a trial run on records would leave in the model is undone.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng():
            yield
    finally:
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
            for parameter in model.parameters():
                parameter.grad = None


def _compare(
    small: Sequence[Observation], large: Sequence[Observation]
) -> tuple[dict[int, frozenset[Layout]], list[UnsupportedError]]:
    """Return the layouts of all sites, and what is wrong with those that have none.

    A site downstream of an expansion that this pass did not know yet may look wrong and be no
    site at all in the next one; so refusals stand only once the layouts have settled.
    """
    if [site.key for site in small] != [site.key for site in large]:
        raise UnsupportedError(
            "Expected the same operations on trainable parameters for any number of records. "
            "The model's control flow depends on the batch, so the record dimension cannot be "
            "told. Freeze the parameters concerned."
        )
    found: dict[int, set[Layout]] = {}
    refusals = []
    for one, other in zip(small, large, strict=True):
        try:
            layout = layout_of(one, other, _SIZES)
        except UnsupportedError as refusal:
            refusals.append(refusal)
        else:
            found.setdefault(one.key, set()).add(layout)
    return {key: frozenset(layouts) for key, layouts in found.items()}, refusals
