"""No record, however wild, moves the clipped sum by more than the clip norm."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import torch
from torch import nn
from torch.nn import functional

from dpft.clipping import ClippedSum
from dpft.engine import captures, record_gradients
from dpft.engine.attachment import Engine
from dpft.privacy import ClippingStyle

Batch = Mapping[str, torch.Tensor]
WIDTH, WORDS = 8, 40
WILD = ("ordinary", "huge", "huge_once", "zero", "nan", "infinite", "denormal", "repeated")


class Scale(nn.Module):
    """Multiplies by a vector, as (IA)^3 does."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Reparametrised(nn.Module):
    """A weight that is a product of two factors: an expression."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(WIDTH, 2))
        self.right = nn.Parameter(torch.randn(2, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.left @ self.right)


BLOCKS = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "norm": lambda: nn.LayerNorm(WIDTH),
    "scale": Scale,
    "reparametrised": Reparametrised,
}


class Chain(nn.Module):
    """Words and numbers through some blocks; `shared` ones are used twice, the words as a head."""

    def __init__(self, blocks: list[str], *, shared: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList([BLOCKS[block]() for block in blocks])
        self.shared = shared

    def forward(self, batch: Batch) -> torch.Tensor:
        x = self.words(batch["ids"]) + batch["x"]
        for block in self.blocks:
            x = block(x)
            x = block(x.tanh()) if self.shared else x
        return functional.linear(x, self.words.weight) if self.shared else x


@dataclasses.dataclass(frozen=True)
class Example:
    blocks: list[str]
    shared: bool
    ghost: bool
    tokens: int
    kinds: list[str]
    style: ClippingStyle
    clip_norm: float
    seed: int


EXAMPLES = st.builds(
    Example,
    blocks=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=3),
    shared=st.booleans(),
    ghost=st.booleans(),  # whether matrices are kept as outer products or in full
    tokens=st.integers(1, 3),
    kinds=st.lists(st.sampled_from(WILD), min_size=1, max_size=4),
    style=st.sampled_from(list(ClippingStyle)),
    clip_norm=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 1000),
)


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch).square().flatten(1).sum(1)


def record(kind: str, tokens: int) -> dict[str, torch.Tensor]:
    """Return one record [1, ...] of a kind."""
    x, ids = torch.randn(1, tokens, WIDTH), torch.randint(0, WORDS, (1, tokens))
    if kind == "huge_once":
        x[0, -1, 0] = 1e30
    elif kind == "repeated":
        x, ids = x[:, :1].expand(-1, tokens, -1).clone(), ids[:, :1].expand(-1, tokens).clone()
    else:
        factors = {"ordinary": 1.0, "huge": 1e30, "zero": 0.0, "denormal": 1e-41}
        x = x * factors.get(kind, 1.0)
        x[0, 0] = {"nan": torch.nan, "infinite": torch.inf}.get(kind, x[0, 0])
    return {"x": x, "ids": ids}


def clipped_sum(engine: Engine, batch: Batch, example: Example) -> dict[str, torch.Tensor]:
    """Return the clipped sum of one physical batch."""
    total = ClippedSum(engine.parameters, example.style, example.clip_norm)
    with (
        mock.patch.object(captures, "ghost_is_cheaper", return_value=example.ghost),
        mock.patch.object(record_gradients, "ghost_is_cheaper", return_value=example.ghost),
    ):
        gradients = engine.gradients(batch)
    assert example.ghost == ("words.weight" in gradients.ghosts)
    total.add(gradients)
    return {name: part.double() for name, part in total.raw_sums.items()}


def norm(parts: Mapping[str, torch.Tensor]) -> float:
    return float(torch.cat([part.flatten() for part in parts.values()]).norm())


def is_finite(model: nn.Module, batch: Batch) -> bool:
    """Whether autograd, without the engine, gives a finite gradient."""
    parameters = list(model.parameters())
    grads = torch.autograd.grad(loss(model, batch).sum(), parameters, allow_unused=True)
    return all(bool(grad.isfinite().all()) for grad in grads if grad is not None)


def joined(records: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([one[name] for one in records]) for name in records[0]}


def build(example: Example) -> tuple[Engine, list[dict[str, Any]]]:
    torch.manual_seed(example.seed)
    model = Chain(example.blocks, shared=example.shared)
    return Engine(model, loss), [record(kind, example.tokens) for kind in example.kinds]


@hypothesis.settings(max_examples=60, derandomize=True, deadline=None)
@hypothesis.given(EXAMPLES)
def test_no_record_contributes_more_than_the_clip_norm(example: Example) -> None:
    engine, records = build(example)
    for one in records:
        assert norm(clipped_sum(engine, one, example)) <= example.clip_norm


@hypothesis.settings(max_examples=60, derandomize=True, deadline=None)
@hypothesis.given(EXAMPLES)
def test_a_record_that_is_not_finite_contributes_nothing_and_leaves_the_others_alone(
    example: Example,
) -> None:
    engine, records = build(example)
    singles = [clipped_sum(engine, one, example) for one in records]
    for one, single in zip(records, singles, strict=True):
        if not is_finite(engine.model, one):
            assert norm(single) == 0.0
    together = clipped_sum(engine, joined(records), example)
    gap = {n: together[n] - torch.stack([each[n] for each in singles]).sum(0) for n in together}
    assert norm(gap) <= 1e-4 * example.clip_norm * len(records)  # float32, and a NaN fails


def test_the_clipped_sum_holds_no_graph_of_the_records() -> None:
    example = Example(["linear"], True, True, 2, ["ordinary"], ClippingStyle.FLAT, 1.0, 0)  # noqa: FBT003 - fields
    engine, (one,) = build(example)
    assert not any(part.requires_grad for part in clipped_sum(engine, one, example).values())
