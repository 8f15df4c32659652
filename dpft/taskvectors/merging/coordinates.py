"""Coordinates in which deltas at one place are linear, so that entries can be compared."""

import dataclasses
from collections.abc import Callable, Sequence

import torch

from dpft.adapters.algebra import Bottleneck, Delta, Dense, LowRank, Offset, Part
from dpft.adapters.algebra.linear import same_shape
from dpft.adapters.algebra.low_rank import shares_right
from dpft.adapters.algebra.offset import refuse_other_starts
from dpft.errors import ConfigurationError
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.vector import TaskVector, derived

__all__ = ["Coordinates", "coordinates", "merged_by_place"]


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """Deltas at one place as tensors of one shape.

    Args:
        moved: One tensor for each vector, in double precision; zeros where it has no delta here.
        rebuild: Makes a part of such a tensor.
    """

    moved: list[torch.Tensor]
    rebuild: Callable[[torch.Tensor], Part]


_Rule = Callable[[str, list[torch.Tensor]], torch.Tensor]


def merged_by_place(
    vectors: Sequence[TaskVector], options: MergeOptions, method: str, rule: _Rule
) -> TaskVector:
    """Merge place by place.

    Args:
        vectors: At least one.
        options: As they were given, for the history.
        method: Name of the method, for the history.
        rule: Makes one tensor of the place and the tensors of all vectors.

    Returns:
        A new vector.

    Raises:
        ConfigurationError: If deltas at a place have no common coordinates.

    Privacy:
        Post-processing, if the rule looks at nothing else: the runs of all vectors.
    """
    deltas = [vector.delta for vector in vectors]
    parts: dict[str, Part] = {}
    for place in sorted({place for delta in deltas for place in delta.parts}):
        here = coordinates([delta.parts.get(place) for delta in deltas])
        parts[place] = here.rebuild(options.scaling_coef * rule(place, here.moved))
    made = _like(deltas, parts)
    return derived(vectors, made, {"method": method} | dataclasses.asdict(options))


def coordinates(parts: Sequence[Part | None]) -> Coordinates:
    """Return deltas at one place in common coordinates.

    Args:
        parts: One for each vector, at least one of them given.

    Returns:
        value - start for what has a start; the first factors of low-rank changes with one second
        factor (FFA-LoRA); the dense change otherwise.

    Raises:
        ConfigurationError: If there are none, as for networks beside sub-layers.

    Privacy:
        Nothing, no data touched: released weights.
    """
    given = [part for part in parts if part is not None]
    offsets = [part for part in given if isinstance(part, Offset)]
    low = [part for part in given if isinstance(part, LowRank)]
    if len(offsets) == len(given):
        refuse_other_starts(offsets)
        return Coordinates(_filled(parts, lambda part: part.moved()), offsets[0].at)
    if len(low) == len(given) and all(shares_right(low[0], part) for part in low):
        return Coordinates(_filled(parts, lambda part: part.left.double()), _by_left(low[0]))
    if offsets or any(isinstance(part, Bottleneck) for part in given):
        raise ConfigurationError(
            "Expected parts to have coordinates that add up. Entries of networks beside sub-layers "
            "mean nothing one by one. Merge them by method=linear."
        )
    return Coordinates(_filled(parts, lambda part: part.dense().double()), _dense(given))


def _filled(parts: Sequence[Part | None], moved: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    tensors = [None if part is None else moved(part) for part in parts]
    known = [tensor for tensor in tensors if tensor is not None]
    same_shape(known)
    return [torch.zeros_like(known[0]) if tensor is None else tensor for tensor in tensors]


def _by_left(part: LowRank) -> Callable[[torch.Tensor], Part]:
    return lambda moved: dataclasses.replace(part, left=moved.to(part.left.dtype))


def _dense(parts: Sequence[Part]) -> Callable[[torch.Tensor], Part]:
    (first, *_) = (part for part in parts if isinstance(part, LowRank | Dense))
    dtype = first.left.dtype if isinstance(first, LowRank) else first.added.dtype
    return lambda moved: Dense(moved.to(dtype), first.layout)


def _like(deltas: Sequence[Delta], parts: dict[str, Part]) -> Delta:
    seeds, tasks = (
        {getattr(each, name) for each in deltas} for name in ("frozen_seed", "task_type")
    )
    return dataclasses.replace(
        deltas[0],
        parts=parts,
        heads=frozenset().union(*(delta.heads for delta in deltas)),
        frozen_seed=seeds.pop() if len(seeds) == 1 else None,
        task_type=tasks.pop() if len(tasks) == 1 else None,
    )
