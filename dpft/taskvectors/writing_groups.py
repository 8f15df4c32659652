"""What peft loads for a delta, made one place at a time.

A writer of `dpft.adapters.algebra` is called on shapes alone first, which gives the configuration
and every name, and on the parts of one place when their turn comes.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from dpft.adapters.algebra import Bottleneck, Delta, Dense, LowRank, Offset, Part, write
from dpft.adapters.algebra.heads import needs_head
from dpft.adapters.algebra.names import in_file
from dpft.errors import ConfigurationError
from dpft.taskvectors.tensor_stream import in_layout_order

__all__ = ["Announced", "announced", "shape_of", "streamed"]


@dataclasses.dataclass(frozen=True, eq=False)
class Announced:
    """What will be written.

    Args:
        config: peft's configuration; its ranks are upper bounds where a tolerance decides them.
        shapes: Tensors without content, by name.
        groups: Places whose tensors are made together.

    Privacy:
        Nothing, no data touched.
    """

    config: Any
    shapes: Mapping[str, torch.Tensor]
    groups: Sequence[Sequence[str]]


def shape_of(part: Part) -> Part:
    """Return a part of the same kind and shapes without content.

    Args:
        part: Any part.

    Privacy:
        Nothing, no data touched.
    """
    meta = {name: tensor.to("meta") for name, tensor in part.tensors().items()}
    if isinstance(part, Offset):
        return Offset(meta["value"], meta.get("start"))
    if isinstance(part, Bottleneck):
        norms = {name: meta.pop(name) for name in part.norms}
        return Bottleneck(**meta, norms=norms)
    if isinstance(part, Dense):
        return Dense(meta["added"], part.layout)
    return LowRank(meta["left"], meta["right"], part.layout)


def announced(shapes: Delta) -> Announced:
    """Return what peft will be given for a delta, before a tensor is read.

    Args:
        shapes: The delta with parts of `shape_of`.

    Raises:
        ConfigurationError: If no adapter of peft holds it.

    Privacy:
        Nothing, no data touched.
    """
    written = write(shapes)
    if needs_head(written.config):
        raise ConfigurationError(
            "Expected a prompt of a task with labels to have a head. peft asks for one when it "
            "loads the file. Save it by form=delta, or keep the head."
        )
    return Announced(written.config, written.tensors, _groups(shapes))


def streamed(
    delta: Delta, what: Announced, dtype: torch.dtype | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Make the tensors of a delta in the order of their file; those of one group are held.

    Args:
        delta: Its parts are read when their turn comes.
        what: What was announced for it.
        dtype: What floating-point tensors are rounded to; None: as they are.

    Returns:
        Names and tensors.

    Privacy:
        Nothing, no data touched: released weights (`test_memory_does_not_grow_with_layers`).
    """
    owners = _owners(delta, what)
    held: tuple[Sequence[str], Mapping[str, torch.Tensor]] = ((), {})
    for name in in_layout_order(what.shapes):
        if owners[name] is not held[0]:
            held = ((), {})  # before the next is made: one group is held, not two
            held = (owners[name], write(_only(delta, owners[name])).tensors)
        tensor = held[1][name]
        yield name, tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def _groups(delta: Delta) -> list[list[str]]:
    """Cut places into groups; heads go with the first, since none is written alone."""
    parts = {place: delta.parts[place] for place in delta.parts if place not in delta.heads}
    if not all(_stands_alone(part) for part in parts.values()):
        return [list(delta.parts)]
    first, *others = parts
    return [[first, *sorted(delta.heads)], *([place] for place in others)]


def _stands_alone(part: Part) -> bool:
    return isinstance(part, LowRank) or (isinstance(part, Dense) and part.added.dim() == 2)


def _owners(delta: Delta, what: Announced) -> dict[str, Sequence[str]]:
    owners: dict[str, Sequence[str]] = {}
    for group in what.groups:
        if len(what.groups) == 1:
            return dict.fromkeys(what.shapes, group)
        owners |= dict.fromkeys(_names(delta, group, what), group)
    return owners


def _names(delta: Delta, group: Sequence[str], what: Announced) -> list[str]:
    """Return the names in peft's file of the tensors of a group."""
    heads = {in_file(place) for place in group if place in delta.heads}
    modules = [place.removesuffix(".weight") for place in group if place not in delta.heads]
    starts = tuple(in_file(f"{module}.lora_") for module in modules)
    return [name for name in what.shapes if name in heads or name.startswith(starts)]


def _only(delta: Delta, group: Sequence[str]) -> Delta:
    parts = {place: delta.parts[place] for place in group}
    return dataclasses.replace(delta, parts=parts, heads=delta.heads & set(group))
