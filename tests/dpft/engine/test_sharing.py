"""Shared parameters, views, broadcasting and odd batches, each against a loop over records."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional

import dpft
from dpft.engine.attachment import PerRecordLoss
from dpft.errors import BrokenGuaranteeError

Batch = Mapping[str, torch.Tensor]
Loop = Callable[[nn.Module, Batch, PerRecordLoss], dict[str, torch.Tensor]]
Error = Callable[[Batch, Batch], float]
BATCH, TOKENS, WIDTH, WORDS = 4, 6, 5, 11


def squared(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return a loss that no symmetry makes zero."""
    return (model(batch) ** 2).flatten(1).mean(1) + model(batch).sin().flatten(1).sum(1)


def records(batch: int = BATCH, tokens: int = TOKENS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "x": torch.randn(batch, tokens, WIDTH, dtype=torch.float64, generator=generator),
        "ids": torch.randint(0, WORDS, (batch, tokens), generator=generator),
    }


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.layer(self.layer(batch["x"]).tanh())


class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH, padding_idx=2)

    def forward(self, batch: Batch) -> torch.Tensor:
        return functional.linear(self.embedding(batch["ids"]).tanh(), self.embedding.weight)


class Views(nn.Module):
    """One parameter through chunk, slice, transpose and an index."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2 * WIDTH, WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        first, second = self.weight.chunk(2)
        x = functional.linear(batch["x"], first) @ second.t()
        x = x * self.weight[0] + self.weight[3:4]
        return x + batch["x"] @ self.weight[torch.tensor([1, 4, 5, 6, 8])].T


class Broadcast(nn.Module):
    """Learned positions [1, T, D], a scalar gate, and a parameter expanded to every record."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, TOKENS, WIDTH))
        self.gate = nn.Parameter(torch.tensor(0.7))
        self.prompt = nn.Parameter(torch.randn(2, WIDTH))
        self.scale = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, batch: Batch) -> torch.Tensor:
        x = batch["x"] + self.positions
        x = (x - self.scale) * self.gate / self.scale
        prompt = self.prompt.unsqueeze(0).expand(x.shape[0], -1, -1)
        return torch.cat([prompt, x, self.prompt.repeat(x.shape[0], 1, 1)], dim=1).cumsum(1)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(WIDTH))
        self.scale = nn.Parameter(torch.randn(WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        x = batch["x"].clone()
        x += self.bias
        x *= self.scale
        x.sub_(self.bias)
        x[:, 0] = self.scale
        x[:, 1:3] = x[:, 1:3] + self.bias
        return x.tanh()


class RelativeBias(nn.Module):
    """A table looked up by a record-free [T, T] index, as T5 does."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Embedding(2 * TOKENS, 2)

    def forward(self, batch: Batch) -> torch.Tensor:
        x = batch["x"]
        place = torch.arange(x.shape[1])
        table = self.bias(place[None, :] - place[:, None] + TOKENS)
        scores = (x @ x.transpose(1, 2)).unsqueeze(1) + table.permute(2, 0, 1).unsqueeze(0)
        return scores.softmax(-1)


class Flattened(nn.Module):
    """Records and tokens on one axis, as GPT-2's Conv1D does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, 3))
        self.bias = nn.Parameter(torch.randn(3))
        self.shift = nn.Parameter(torch.randn(3))

    def forward(self, batch: Batch) -> torch.Tensor:
        x = batch["x"]
        y = torch.addmm(self.bias, x.reshape(-1, WIDTH), self.weight) * self.shift
        return y.view(*x.shape[:2], 3)


class FallsToTheGenericRule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(2, WIDTH, 3))
        self.core = nn.Parameter(torch.randn(2, WIDTH, WIDTH))
        self.slope = nn.Parameter(torch.rand(WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        x = batch["x"]
        mixed = torch.einsum("btd,hde->bhte", x, self.core).mean(1)
        convolved = functional.conv1d(mixed.transpose(1, 2), self.kernel, padding=1)
        leaky = functional.prelu(x.transpose(1, 2), self.slope)
        return torch.cat([convolved, leaky], dim=1)


class Reparametrised(nn.Module):
    """A weight made of a Kronecker product, a normalisation and a cast."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(5, 1))
        self.right = nn.Parameter(torch.randn(1, 5))
        self.magnitude = nn.Parameter(torch.randn(5))

    def forward(self, batch: Batch) -> torch.Tensor:
        weight = torch.kron(self.left, self.right) + 0.1 * torch.eye(5, dtype=torch.float64)
        weight = self.magnitude.unsqueeze(1) * weight / weight.norm(dim=1, keepdim=True)
        return functional.linear(batch["x"], weight)


class RepeatedAmongHeads(nn.Module):
    """A table of two rows repeated on the axis that holds records and heads, as DeBERTa does."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, TOKENS, WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        x = batch["x"]
        heads = x.unsqueeze(1).expand(-1, 2, -1, -1).flatten(0, 1)
        return (heads * self.table.repeat(len(x), 1, 1)).view(len(x), 2, *x.shape[1:])


class PromptWrittenTo(nn.Module):
    """A soft prompt, copied to every record and partly overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.randn(3, WIDTH))

    def forward(self, batch: Batch) -> torch.Tensor:
        copies = self.prompt.tanh().expand(len(batch["x"]), -1, -1).clone()
        copies[:, 0] = batch["x"][:, 0]
        copies *= 2
        return torch.cat([copies, batch["x"]], dim=1).cumsum(1)


class ResultsWrittenTo(nn.Module):
    """In-place arithmetic on what operations return, records on the second axis, as Longformer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(WORDS, WIDTH))
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, batch: Batch) -> torch.Tensor:
        x = functional.embedding(batch["ids"], self.table)
        x += batch["x"]
        x[:, 0] *= 2
        y = self.layer(x.transpose(0, 1))
        y /= 3
        return y.transpose(0, 1).tanh()


MODELS = (
    UsedTwice,
    RepeatedAmongHeads,
    PromptWrittenTo,
    ResultsWrittenTo,
    TiedEmbedding,
    Views,
    Broadcast,
    InPlace,
    RelativeBias,
    Flattened,
    FallsToTheGenericRule,
    Reparametrised,
)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("batch", [1, BATCH, TOKENS], ids=["one", "several", "as_many_as_tokens"])
def test_gradients_equal_the_loop_for_any_batch_size(
    kind: type[nn.Module], batch: int, loop: Loop, error: Error
) -> None:
    torch.manual_seed(3)
    model = kind().double()
    data = records(batch)
    expected = loop(model, data, squared)
    assert error(dpft.per_record_gradients(model, squared, data), expected) <= 1e-9


def test_shared_parameters_sum_before_the_norm(loop: Loop) -> None:
    torch.manual_seed(3)
    model, data = UsedTwice().double(), records()
    got = dpft.per_record_gradients(model, squared, data)["layer.weight"]
    expected = loop(model, data, squared)["layer.weight"]
    assert torch.allclose(got.flatten(1).norm(dim=1), expected.flatten(1).norm(dim=1), rtol=1e-9)


def test_the_table_of_a_smaller_batch_serves_a_larger_one(loop: Loop, error: Error) -> None:
    from dpft.engine.attachment import Engine

    torch.manual_seed(3)
    model = Broadcast().double()
    engine = Engine(model, squared)
    engine.raw_gradients(records(2))
    data = records(BATCH)
    assert error(engine.raw_gradients(data), loop(model, data, squared)) <= 1e-9


def test_the_model_is_ordinary_afterwards() -> None:
    model = UsedTwice().double()
    dpft.per_record_gradients(model, squared, records())
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())
    assert all(vars(parameter) == {} for parameter in model.parameters())
    squared(model, records()).sum().backward()
    assert model.layer.weight.grad is not None


def test_the_model_is_ordinary_after_an_exception() -> None:
    model = UsedTwice().double()

    def broken(model: nn.Module, batch: Batch) -> torch.Tensor:
        squared(model, batch)
        raise KeyError

    with pytest.raises(KeyError):
        dpft.per_record_gradients(model, broken, records())
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())
    assert "_apply" not in torch.autograd.Function.apply.__qualname__


def test_statistics_of_records_kept_in_a_buffer_are_refused_and_undone() -> None:
    class Counting(UsedTwice):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, batch: Batch) -> torch.Tensor:
            self.calls += 1
            return super().forward(batch)

    model = Counting().double()
    with pytest.raises(BrokenGuaranteeError, match="calls"):
        dpft.per_record_gradients(model, squared, records())
    assert model.calls == 0


def test_a_buffer_that_appears_during_a_pass_is_refused() -> None:
    class Keeping(UsedTwice):
        def forward(self, batch: Batch) -> torch.Tensor:
            self.register_buffer(f"seen_{len(self._buffers)}", batch["x"].mean())
            return super().forward(batch)

    with pytest.raises(BrokenGuaranteeError, match="seen"):
        dpft.per_record_gradients(Keeping().double(), squared, records())


def test_the_random_state_survives_the_probe() -> None:
    model = UsedTwice().double()
    torch.manual_seed(9)
    dpft.per_record_gradients(model, squared, records())
    drawn = torch.rand(1)
    torch.manual_seed(9)
    assert torch.equal(drawn, torch.rand(1))
