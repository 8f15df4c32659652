"""Users' joint gradients against a loop over users, in every form and every cut."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from dpft.clipping import ClippedSum
from dpft.engine import captures, record_gradients
from dpft.engine.attachment import Engine, PerRecordLoss
from dpft.engine.grouping import Grouping
from dpft.engine.outer import Dense, OneHot, Outer
from dpft.joint_gradients import add_clipped_users, add_plain_gradient
from dpft.performance import Performance
from dpft.privacy import ClippingStyle
from dpft.sampling import LogicalBatch

Batch = Mapping[str, torch.Tensor]
Rows = list[dict[str, Any]]
SIZES = (1, 3, 2)
WIDTH, WORDS = 4, 9
ARCHITECTURES = ("bert", "gpt2", "t5", "llama")
CUTS = (
    Performance(),
    Performance(max_physical_batch=1),
    Performance(max_physical_batch=2),
    Performance(token_budget=25),
    Performance(batch_overhead=0),
)


@pytest.fixture(params=["ghost", "in_full"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in (captures, record_gradients):
        ghost = request.param == "ghost"
        monkeypatch.setattr(module, "ghost_is_cheaper", lambda *_, ghost=ghost: ghost)
    return str(request.param)


def rows_of(batch: Batch) -> Rows:
    size = len(next(iter(batch.values())))
    return [{name: value[i].tolist() for name, value in batch.items()} for i in range(size)]


def stacked(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def by_user(rows: Rows, sizes: Sequence[int]) -> list[Rows]:
    starts = [sum(sizes[:user]) for user in range(len(sizes))]
    return [rows[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def means(
    model: nn.Module, loss: PerRecordLoss, users: Sequence[Rows]
) -> list[dict[str, torch.Tensor]]:
    """Return each user's joint gradient by autograd alone, one record at a time.

    The sum is divided, and not the loss: T5 and Llama compute their norms in float32, where a
    smaller gradient is rounded otherwise.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = []
    for rows in users:
        total = torch.stack([loss(model, stacked([row])).sum() for row in rows]).sum()
        grads = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        pairs = zip(named.items(), grads, strict=True)
        size = len(rows)
        found.append({n: torch.zeros_like(p) if g is None else g / size for (n, p), g in pairs})
    return found


def clipped(
    engine: Engine, rows: Rows, sizes: Sequence[int], performance: Performance | None = None
) -> dict[str, torch.Tensor]:
    total = ClippedSum(engine.parameters, ClippingStyle.FLAT, 0.5)
    batch = LogicalBatch(rows, stacked, 0, sizes)
    for users in batch.user_batches(performance or Performance()):
        add_clipped_users(engine, users, total)
    return total.raw_sums


def flat(grads: Batch) -> torch.Tensor:
    return torch.cat([grads[name].detach().double().flatten() for name in sorted(grads)])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "ia3", "prompt", "full"])
@pytest.mark.usefixtures("form")
def test_joint_gradients_equal_a_loop_over_users(
    method: str,
    architecture: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    error: Callable[[Batch, Batch], float],
) -> None:
    model, batch = prepare(method, architecture), texts(sum(SIZES))
    engine = Engine(model, losses)
    joint = engine.gradients(batch).joined(Grouping.of(SIZES, torch.device("cpu")))
    counts = torch.tensor(SIZES, dtype=torch.float64)
    got = {
        name: sums / counts.view(-1, *[1] * (sums.dim() - 1))
        for name, sums in joint.instantiated().items()
    }
    expected = means(model, losses, by_user(rows_of(batch), SIZES))
    stacked_means = {name: torch.stack([each[name] for each in expected]) for name in expected[0]}
    got |= {n: torch.zeros_like(ref) for n, ref in stacked_means.items() if n not in got}
    assert all(bool(ref.any()) for ref in stacked_means.values())
    assert error(got, stacked_means) <= 1e-9
    norms = torch.stack([flat(each).norm() for each in expected])
    used = joint.raw_norms()
    assert used is not None
    assert float((used / counts / norms - 1).abs().max()) <= 1e-9


class Bag(nn.Module):
    """Words, a matrix used twice and a bias: one-hot, dense and full forms, shared."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.double()

    def forward(self, batch: Batch) -> torch.Tensor:
        x = self.words(batch["input_ids"])
        x = self.mix(self.mix(x).tanh())
        scores = functional.linear(x, self.words.weight).logsumexp(-1)
        return (scores.mean(1) * batch["scale"]).square()


def bag_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    found: torch.Tensor = model(batch)
    return found


def bag_rows(count: int, scale: float = 1.0) -> Rows:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(WORDS, (count, 5), generator=generator).tolist()
    return [{"input_ids": ids[i], "scale": scale * (1 + i % 3)} for i in range(count)]


@pytest.mark.parametrize("performance", CUTS)
@pytest.mark.usefixtures("form")
def test_any_cut_gives_the_clipped_sum_of_a_loop_over_users(performance: Performance) -> None:
    engine, sizes = Engine(Bag(), bag_loss), (4, 1, 5, 1)
    for scale in (1.0, 1e-2):  # above the clip norm, and below it
        rows = bag_rows(11, scale)
        expected = torch.zeros(())
        for mean in map(flat, means(engine.model, bag_loss, by_user(rows, sizes))):
            assert (float(mean.norm()) > 0.5) == (scale == 1.0)
            expected = expected + mean * min(1.0, 0.5 * (1 - 1e-3) / float(mean.norm()))
        got = flat(clipped(engine, rows, sizes, performance))
        assert float((got - expected).norm() / expected.norm()) <= 1e-9


@pytest.mark.parametrize("performance", CUTS[:2])
@pytest.mark.usefixtures("form")
def test_the_order_of_records_and_batch_mates_do_not_matter(performance: Performance) -> None:
    engine, rows = Engine(Bag(), bag_loss), bag_rows(9)
    one, other = rows[:4], rows[4:]
    alone = flat(clipped(engine, one, [4], performance))
    shuffled = flat(clipped(engine, [one[i] for i in (2, 0, 3, 1)], [4], performance))
    among = flat(clipped(engine, [*other, *one], [5, 4], performance))
    others = flat(clipped(engine, other, [5], performance))
    assert float((alone - shuffled).norm()) <= 1e-12
    assert float((among - others - alone).norm()) <= 1e-12


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("performance", CUTS[:2])
@pytest.mark.usefixtures("form")
def test_one_record_that_is_not_finite_zeroes_the_whole_user(
    performance: Performance, wrong: float
) -> None:
    engine, rows = Engine(Bag(), bag_loss), bag_rows(7)
    rows[0] = {**rows[0], "scale": wrong}
    without = clipped(engine, rows[4:], [3], performance)
    got = clipped(engine, rows, [4, 3], performance)
    assert all(torch.equal(got[name], without[name]) for name in got) or (
        float((flat(got) - flat(without)).norm()) <= 1e-13
    )
    assert not flat(clipped(engine, rows[:4], [4], performance)).any()


@pytest.mark.parametrize("style", list(ClippingStyle))
@pytest.mark.parametrize("performance", CUTS[:2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.usefixtures("form")
def test_no_user_contributes_more_than_the_clip_norm(
    style: ClippingStyle, performance: Performance, dtype: torch.dtype
) -> None:
    engine = Engine(Bag().to(dtype), bag_loss)
    for scale in (1.0, 1e6):
        rows = [dict(bag_rows(1, scale)[0]) for _ in range(20)]  # all point the same way
        total = ClippedSum(engine.parameters, style, 0.5)
        for users in LogicalBatch(rows, stacked, 0, [20]).user_batches(performance):
            add_clipped_users(engine, users, total)
        assert 0.45 < float(flat(total.raw_sums).norm()) <= 0.5


@pytest.mark.usefixtures("form")
def test_records_that_cancel_are_not_understated() -> None:
    """The norm is of the sum, whose rounding must not fall below what is added."""
    engine = Engine(Bag().float(), signed_loss)
    rows = [{**row, "scale": sign * 1e3} for row in bag_rows(4) for sign in (1.0, -1.0)]
    rows[-1]["scale"] = -1001.0
    for performance in CUTS[:2]:
        total = clipped(engine, rows, [8], performance)
        assert float(flat(total).norm()) <= 0.5


def signed_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    words = model.words(batch["input_ids"])
    return model.mix(words).tanh().sum((1, 2)) * batch["scale"].to(words.dtype)


def test_a_plain_gradient_is_that_of_users_mean_losses() -> None:
    rows, sizes = bag_rows(7), (5, 2)
    for performance in CUTS[:2]:
        engine = Engine(Bag(), bag_loss)
        for users in LogicalBatch(rows, stacked, 0, sizes).user_batches(performance):
            add_plain_gradient(engine, users, 4.0)
        got = flat({n: p.grad for n, p in engine.parameters.items() if p.grad is not None})
        expected = sum(map(flat, means(engine.model, bag_loss, by_user(rows, sizes)))) / 4.0
        assert float((got - expected).norm()) <= 1e-12


def test_absent_records_add_nothing_also_where_both_sides_are_looked_up() -> None:
    index = torch.tensor([[1], [2], [0]])
    site = Outer(OneHot(index, 3), OneHot(index, 3))
    joined = site.joined(Grouping.of((2, 1), torch.device("cpu"))).instantiated()
    assert torch.equal(joined[0], torch.diag(torch.tensor([0.0, 1.0, 1.0])))
    assert torch.equal(joined[1], torch.diag(torch.tensor([1.0, 0.0, 0.0])))


def test_absent_records_stay_zero_beside_terms_that_are_not_finite() -> None:
    values = torch.tensor([[[float("nan")]], [[1.0]], [[2.0]]])
    site = Outer(Dense(values), Dense(torch.ones(3, 1, 1)))
    sums = site.joined(Grouping.of((2, 1), torch.device("cpu"))).instantiated().flatten()
    assert torch.isnan(sums[0])
    assert float(sums[1]) == 2.0  # absent records are looked up where the first one stands
