"""Ghost norm and instantiated gradient give the same contribution, for every kind of sharing."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from dpft.clipping import ClippedSum
from dpft.engine import captures, forms, outer, record_gradients
from dpft.engine.attachment import Engine
from dpft.engine.forms import ghost_is_cheaper, gram_is_cheaper
from dpft.engine.pull_back import pull_back
from dpft.privacy import ClippingStyle

Batch = Mapping[str, torch.Tensor]
BATCH, TOKENS, WIDTH, WORDS = 4, 6, 5, 11


class Tied(nn.Module):
    """One table as embedding, as head, through its transpose, and through a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(WORDS, WIDTH))
        self.mix = nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        x = functional.embedding(batch["ids"], self.table, padding_idx=2)
        x = torch.matmul(x, self.mix).tanh() + functional.linear(x, self.mix)
        scores = functional.linear(x, self.table) + x @ self.table.t() + x @ self.table.T.T.mT
        return torch.cat([scores, functional.linear(x, self.table[2:5])], dim=-1)


class TransposedTable(nn.Module):
    """A table that is looked up through its transpose, as LoRA on embeddings does."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(3, WORDS))
        self.up = nn.Parameter(torch.randn(WIDTH, 3))

    def forward(self, batch: Batch) -> torch.Tensor:
        return functional.embedding(batch["ids"], self.down.T) @ self.up.T


class Column(nn.Module):
    """A column, whose identity has the strides of its transpose; and a bias that is broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.column = nn.Parameter(torch.randn(WIDTH, 1))
        self.bias = nn.Parameter(torch.randn(1))
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        x = batch["x"] @ self.column.permute(0, 1) + batch["x"] @ self.column
        y = functional.linear(batch["x"], self.weight, self.bias)
        return x + torch.addmm(self.bias, y.flatten(0, 1), self.weight).view(y.shape)


class Kronecker(nn.Module):
    """A weight larger than its parameters, used at two sites."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(5, 1))
        self.right = nn.Parameter(torch.randn(1, 5))

    def forward(self, batch: Batch) -> torch.Tensor:
        weight = torch.kron(self.left, self.right).tanh()
        return functional.linear(functional.linear(batch["x"], weight).tanh(), weight)


class Mixed(nn.Module):
    """One matrix at a linear site and at one that only the generic rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        return functional.linear(batch["x"], self.weight) + torch.einsum(
            "btd,de->bte", batch["x"], self.weight
        )


MODELS = (Tied, TransposedTable, Column, Kronecker, Mixed)
DTYPES = {torch.float64: 1e-9, torch.float32: 1e-5}


def records() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "x": torch.randn(BATCH, TOKENS, WIDTH, generator=generator),
        "ids": torch.randint(0, WORDS, (BATCH, TOKENS), generator=generator),
    }


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch).sin().flatten(1).sum(1)


def in_dtype(
    kind: type[nn.Module], dtype: torch.dtype
) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in records().items()}
    return kind().to(dtype), batch


def force(monkeypatch: pytest.MonkeyPatch, *, ghost: bool, gram: bool = True) -> None:
    for module in (captures, record_gradients):
        monkeypatch.setattr(module, "ghost_is_cheaper", lambda *_: ghost)
    monkeypatch.setattr(outer, "gram_is_cheaper", lambda *_: gram)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
@pytest.mark.parametrize("gram", [True, False], ids=["gram", "chunked"])
def test_all_forms_give_the_same_norms_and_gradients(
    kind: type[nn.Module], dtype: torch.dtype, gram: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for ghost in (True, False):
        force(monkeypatch, ghost=ghost, gram=gram)
        model, batch = in_dtype(kind, dtype)
        found[ghost] = Engine(model, losses).gradients(batch)
    norms = {ghost: gradients.raw_norms().double() for ghost, gradients in found.items()}
    assert torch.allclose(
        norms[True], norms[False], rtol=max(DTYPES[dtype], 1e-4 * (dtype is torch.float32))
    )
    full = found[False].instantiated()
    for name, grads in found[True].instantiated().items():
        assert torch.allclose(grads, full[name], rtol=DTYPES[dtype], atol=DTYPES[dtype])


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_all_forms_give_the_same_clipped_sum(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {}
    for ghost in (True, False):
        force(monkeypatch, ghost=ghost)
        model, batch = in_dtype(kind, torch.float64)
        engine = Engine(model, losses)
        total = ClippedSum(engine.parameters, ClippingStyle.FLAT, 0.5)
        total.add(engine.gradients(batch))
        sums[ghost] = total.raw_sums
    for name, part in sums[True].items():
        assert torch.allclose(part, sums[False][name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ghost", [True, False])
def test_gradients_hold_no_graph_of_the_records(
    ghost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, ghost=ghost)
    model, batch = in_dtype(Tied, torch.float64)
    gradients = Engine(model, losses).gradients(batch)
    assert not gradients.raw_norms().requires_grad
    assert not any(grads.requires_grad for grads in gradients.instantiated().values())


def test_a_tied_table_is_never_formed_per_record_when_ghosts_are_cheaper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(monkeypatch, ghost=True)
    model, batch = in_dtype(TransposedTable, torch.float64)
    assert Engine(model, losses).gradients(batch).ghosts == {"down", "up"}


def test_one_site_in_full_makes_the_whole_parameter_full(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, ghost=True)
    model, batch = in_dtype(Mixed, torch.float64)
    assert Engine(model, losses).gradients(batch).ghosts == frozenset()


def test_the_form_depends_on_sizes() -> None:
    head, factor = (50_000, 384), (8, 384)
    assert ghost_is_cheaper(8 * 8 * sum(head), head, batch_size=1)
    assert not ghost_is_cheaper(64 * 64 * sum(factor), factor, batch_size=32)
    assert gram_is_cheaper(128 * 128 * sum(head), 128, head)


@pytest.mark.parametrize(("batch_size", "ghost"), [(1, False), (8, True)])
def test_gradients_in_full_are_bounded_in_memory(batch_size: int, ghost: bool) -> None:
    shape, terms = (8000, 384), 1024
    products = terms * terms * sum(shape)
    assert ghost_is_cheaper(products, shape, batch_size) is ghost
    assert not gram_is_cheaper(products, terms, shape)


def test_the_form_depends_on_the_batch_and_not_on_the_first_one() -> None:
    model = nn.Linear(256, 256)
    engine = Engine(model, lambda model, batch: model(batch["x"]).sin().flatten(1).sum(1))
    for tokens, ghosts in ((1, {"weight"}), (200, set()), (2, {"weight"})):
        gradients = engine.gradients({"x": torch.randn(3, tokens, 256)})
        assert gradients.ghosts == ghosts


@pytest.mark.parametrize("entries", [2**24, 1], ids=["at_once", "record_by_record"])
def test_dense_expressions_are_pulled_back_in_chunks_of_records(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = []
    plain = pull_back

    def counting(expression: torch.Tensor, leaves: object, grads: torch.Tensor) -> object:
        pulled.append(len(grads))
        return plain(expression, leaves, grads)

    monkeypatch.setattr(captures, "_MAX_CHUNK", entries)
    monkeypatch.setattr("dpft.engine.captures.pull_back", counting)
    model, batch = in_dtype(Kronecker, torch.float64)
    Engine(model, losses).gradients(batch)
    assert pulled == ([BATCH] * 2 if entries > 1 else [1] * 2 * BATCH)


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def language(model: nn.Module, batch: Batch) -> torch.Tensor:
    logits = model(batch["x"]).transpose(1, 2)
    return functional.cross_entropy(logits, batch["labels"], reduction="none").mean(1)


def test_a_head_of_fifty_thousand_words_is_clipped_in_bounded_memory() -> None:
    words, width, tokens, batch = 50_000, 64, 8, 4
    data = {
        "x": torch.randn(batch, tokens, width),
        "labels": torch.randint(0, words, (batch, tokens)),
    }
    engine = Engine(nn.Linear(width, words, bias=False), language)
    engine.gradients(data)  # the probe's own batches are out of the way
    with LargestTensor() as watch:
        gradients = engine.gradients(data)
        total = ClippedSum(engine.parameters, ClippingStyle.FLAT, 1.0)
        total.add(gradients)
    assert gradients.ghosts == {"weight"}
    assert watch.numel <= max(words * width, batch * tokens * words)  # never B x words x width


def test_long_records_of_a_large_head_are_formed_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, width, tokens, batch, most = 4000, 16, 50, 4, 2**17
    monkeypatch.setattr(forms, "_MAX_FULL", most)
    monkeypatch.setattr(outer, "_MAX_ENTRIES", most)
    formed, plain = [], outer.Outer.instantiated

    def counting(site: outer.Outer) -> torch.Tensor:
        formed.append(plain(site).numel())
        return plain(site)

    monkeypatch.setattr(outer.Outer, "instantiated", counting)
    data = {
        "x": torch.randn(batch, tokens, width),
        "labels": torch.randint(0, words, (batch, tokens)),
    }
    engine = Engine(nn.Linear(width, words, bias=False), language)
    ClippedSum(engine.parameters, ClippingStyle.FLAT, 1.0).add(engine.gradients(data))
    assert formed == [2 * words * width] * 2
