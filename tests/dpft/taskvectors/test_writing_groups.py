"""What is written place by place is what is written at once, and one place is held at a time."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from dpft.adapters.algebra import Delta, Family, LowRank, Part, write
from dpft.taskvectors import TaskVector
from dpft.taskvectors.storing import shapes_of
from dpft.taskvectors.writing_groups import announced, streamed

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.mark.parametrize("kind", ["lora", "ffa_lora", "ia3", "bottleneck", "compacter"])
def test_what_is_streamed_is_what_is_written_at_once(
    vector: Callable[..., TaskVector], kind: str
) -> None:
    options = {"reduction_factor": 4, "phm_dim": 2} if kind == "compacter" else {}
    one, other = (vector(kind, seed, **options).without_heads() for seed in (3, 4))
    delta = (one + other).delta
    whole = write(delta)
    what = announced(shapes_of(delta))
    made = dict(streamed(delta, what, None))
    assert set(made) == set(whole.tensors)
    assert all(torch.equal(made[name], tensor) for name, tensor in whole.tensors.items())
    assert what.config.to_dict() == whole.config.to_dict()


def test_heads_are_streamed_too(vector: Callable[..., TaskVector]) -> None:
    delta = vector("lora", 3).delta
    assert delta.heads
    made = dict(streamed(delta, announced(shapes_of(delta)), None))
    assert set(made) == set(write(delta).tensors)


def test_modules_with_one_ending_are_told_apart() -> None:
    places = ("block.fc.weight", "fc.weight", "fc_two.weight")
    parts = {p: LowRank(torch.randn(3, n), torch.randn(n, 4)) for n, p in enumerate(places, 1)}
    delta = Delta(Family.WEIGHTS, parts)
    made = dict(streamed(delta, announced(shapes_of(delta)), None))
    whole = write(delta).tensors
    assert all(torch.equal(made[name], whole[name]) for name in whole)


class Counted(Mapping[str, Part]):
    """Parts that are counted while they live."""

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most = 0

    def __getitem__(self, place: str) -> Part:
        made = LowRank(torch.randn(8, 2), torch.randn(2, 8))
        self.alive.add(made.left)
        self.most = max(self.most, len(self.alive))
        return made

    def __iter__(self) -> Iterator[str]:
        return (f"layers.{number}.fc.weight" for number in range(self._layers))

    def __len__(self) -> int:
        return self._layers


@pytest.mark.parametrize("layers", [2, 12])
def test_memory_does_not_grow_with_layers(layers: int) -> None:
    counted = Counted(layers)
    delta = Delta(Family.WEIGHTS, counted)
    what = announced(shapes_of(delta))
    counted.most = 0
    assert sum(1 for _ in streamed(delta, what, None)) == 2 * layers
    assert counted.most <= 2
