"""What is written place by place is what is written at once, and one place is held at a time."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import nn

from dpft.adapters.algebra import Delta, Family, LowRank, Part, Source, read, write
from dpft.taskvectors import TaskVector
from dpft.taskvectors.adapter_file import WEIGHTS, adapter_config
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


class Block(nn.Module):
    """A layer of the name that one outside has as well."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3, bias=False)


class Nested(Block):
    """Layers of which one's full name is the end of another's."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.fc_two = Block(), nn.Linear(4, 3, bias=False)


@pytest.mark.parametrize("ranks", [(1, 2, 1), (2, 1, 1), (2, 3, 1), (1, 2, 3)])
def test_peft_gives_each_module_its_own_rank(ranks: tuple[int, ...], tmp_path: Path) -> None:
    places = ("block.fc.weight", "fc.weight", "fc_two.weight")
    pairs = zip(places, ranks, strict=True)
    parts = {p: LowRank(torch.randn(3, n), torch.randn(n, 4)) for p, n in pairs}
    written = write(Delta(Family.WEIGHTS, parts))
    written.config.save_pretrained(str(tmp_path))
    save_file(written.tensors, tmp_path / WEIGHTS)
    base: Any = Nested()
    before = {name: each.detach().clone() for name, each in base.named_parameters()}
    merged: Any = PeftModel.from_pretrained(base, str(tmp_path)).merge_and_unload()
    for place, part in parts.items():
        added = merged.get_parameter(place) - before[place]
        assert torch.allclose(added, part.dense(), atol=1e-5), place
    again: Any = read(Source(config=adapter_config(tmp_path), tensors=written.tensors)).parts
    assert {place: again[place].rank for place in parts} == dict(zip(places, ranks, strict=True))


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
