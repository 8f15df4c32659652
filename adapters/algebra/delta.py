"""A delta: parts by place, what they have in common, and what a delta is read from."""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch

from dpft.adapters.algebra.base import BaseModel
from dpft.adapters.algebra.bottleneck import Bottleneck
from dpft.adapters.algebra.dense import Dense
from dpft.adapters.algebra.low_rank import LowRank
from dpft.adapters.algebra.offset import Offset

__all__ = ["Delta", "Family", "Part", "Source", "Written"]

Part = LowRank | Dense | Offset | Bottleneck
"""What a delta is at one place."""


class Family(str, Enum):
    """Deltas of one family add up; those of different families do not."""

    WEIGHTS = "weights"
    """Changes of weights: LoRA, FFA-LoRA, DoRA, biases, norms, full weights."""
    SCALING = "scaling"
    """Factors on activations: (IA)³."""
    BOTTLENECK = "bottleneck"
    """Narrow networks beside a sub-layer: bottleneck adapters, Compacter."""
    PROMPT = "prompt"
    """Rows before the input."""
    PREFIX = "prefix"
    """Keys and values before those of every layer."""


@dataclasses.dataclass(frozen=True, eq=False)
class Delta:
    """What fine-tuning added to a model.

    Args:
        family: Which deltas it adds up with.
        parts: By place: the full name of a parameter of the base model, of a module, or a word
            for what lies outside of it. May be lazy: one part is read at a time.
        heads: Places of heads, which belong to a set of labels.
        settings: What must be equal for a sum to have a meaning, such as an activation.
        labels: Digest of the labels of the head in their order; None if unknown.
        task_type: As peft has it, or None.
        frozen_seed: Public seed of the second factors where those were never trained (FFA-LoRA).

    Privacy:
        Nothing, no data touched: released weights.
    """

    family: Family
    parts: Mapping[str, Part]
    heads: frozenset[str] = frozenset()
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: str | None = None
    task_type: str | None = None
    frozen_seed: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What peft saved of an adapter, and what it needs to be read.

    Args:
        config: peft's configuration.
        tensors: Tensors under the names that peft's file has.
        base: The model under the adapter, as it was before, or None if it is not at hand.
        start: Where trained tensors began, under the same names, as far as it was recorded.

    Privacy:
        Nothing, no data touched: released weights.
    """

    config: Any
    tensors: Mapping[str, torch.Tensor]
    base: BaseModel | None = None
    start: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Written:
    """What peft loads.

    Args:
        config: peft's configuration.
        tensors: Tensors under the names that peft's file has.

    Privacy:
        Nothing, no data touched: released weights.
    """

    config: Any
    tensors: Mapping[str, torch.Tensor]
