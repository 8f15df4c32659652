"""Opacus clips, adds noise and accounts with our per-record gradients, also where its own fail."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from opacus import PrivacyEngine
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate

from dpft.bridges.opacus import GradSamples
from dpft.engine.attachment import PerRecordLoss
from dpft.errors import BrokenGuaranteeError

Batch = Mapping[str, torch.Tensor]
Prepare = Callable[..., nn.Module]
Texts = Callable[..., dict[str, torch.Tensor]]
CLIP_NORM, RATE, RECORDS = 0.3, 0.5, 8
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:opacus")


class Records(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, columns: Batch) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: column[index] for name, column in self.columns.items()}


@pytest.fixture
def records(texts: Texts) -> Records:
    return Records(texts(RECORDS))


def private(
    model: nn.Module, records: Records, *, noise: float = 0.0, batch: int = 4, poisson: bool = False
) -> tuple[Any, Any, Any, PrivacyEngine]:
    engine = PrivacyEngine()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    wrapped, private_optimizer, loader = engine.make_private(
        module=model.train(),
        optimizer=optimizer,
        data_loader=DataLoader(records, batch_size=batch),
        noise_multiplier=noise,
        max_grad_norm=CLIP_NORM,
        poisson_sampling=poisson,
        grad_sample_mode="no_op",
    )
    return wrapped, private_optimizer, loader, engine


def clipped_mean(grads: Batch) -> dict[str, torch.Tensor]:
    """Return the mean of clipped gradients as opacus defines it."""
    norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in grads.values()]).norm(dim=0)
    factors = (CLIP_NORM / (norms + 1e-6)).clamp(max=1.0)
    assert bool((factors < 1).any())  # or clipping would not be seen
    return {n: torch.einsum("b,b...->...", factors, g) / len(g) for n, g in grads.items()}


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "prompt", "layer_norm", "bitfit"])
def test_opacus_takes_the_step_that_a_loop_over_records_would(
    method: str,
    prepare: Prepare,
    records: Records,
    losses: PerRecordLoss,
    loop: Callable[..., dict[str, torch.Tensor]],
) -> None:
    model = prepare(method, "bert")
    _, optimizer, loader, _ = private(model, records)
    samples = GradSamples(model, optimizer, losses)
    for batch in loader:
        before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        expected = clipped_mean(loop(model, batch, losses))
        samples.fill(batch)
        optimizer.step()
        optimizer.zero_grad()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                moved = (before[name] - parameter.detach()) / RATE
                torch.testing.assert_close(moved, expected[name], rtol=1e-9, atol=1e-12)


def test_poisson_samples_are_trained_on_and_accounted_also_empty_ones(
    prepare: Prepare, losses: PerRecordLoss, texts: Texts
) -> None:
    model = prepare("ia3", "bert", torch.float32)
    _, optimizer, loader, engine = private(
        model, Records(texts(3)), noise=1.0, batch=1, poisson=True
    )
    samples, sizes = GradSamples(model, optimizer, losses), set()
    torch.manual_seed(3)
    for _ in range(4):
        for batch in loader:
            sizes.add(len(batch["input_ids"]))
            samples.fill(batch)
            optimizer.step()
            optimizer.zero_grad()
    assert 0 in sizes
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    assert engine.accountant.history[0][2] == 4 * len(loader)
    assert math.isfinite(engine.get_epsilon(delta=1e-3))


def test_physical_batches_of_opacus_add_up(
    prepare: Prepare, records: Records, losses: PerRecordLoss
) -> None:
    def train(largest: int) -> dict[str, torch.Tensor]:
        model = prepare("prompt", "bert")
        _, optimizer, loader, _ = private(model, records, batch=RECORDS, poisson=True)
        samples = GradSamples(model, optimizer, losses)
        torch.manual_seed(1)
        for batch in physical(loader, optimizer, largest):
            samples.fill(batch)
            optimizer.step()
            optimizer.zero_grad()
        return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    whole, parts = train(RECORDS), train(3)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-12) for name in whole)


def physical(loader: Any, optimizer: Any, largest: int) -> Iterator[Batch]:
    with BatchMemoryManager(
        data_loader=loader, max_physical_batch_size=largest, optimizer=optimizer
    ) as batches:
        yield from batches


def test_two_batches_in_one_step_are_refused(
    prepare: Prepare, records: Records, losses: PerRecordLoss
) -> None:
    model = prepare("lora", "bert")
    _, optimizer, _, _ = private(model, records)
    samples = GradSamples(model, optimizer, losses)
    batch = default_collate([records[i] for i in range(2)])
    samples.fill(batch)
    with pytest.raises(BrokenGuaranteeError, match="before fill"):
        samples.fill(batch)
    assert all(vars(p).get("grad_sample") is None for p in model.parameters())
    samples.fill(batch)
    optimizer.step()


def test_a_model_under_opacus_own_hooks_is_refused(
    prepare: Prepare, records: Records, losses: PerRecordLoss
) -> None:
    model = prepare("lora", "bert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PrivacyEngine().make_private(
            module=model.train(),
            optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE),
            data_loader=DataLoader(records, batch_size=4),
            noise_multiplier=1.0,
            max_grad_norm=CLIP_NORM,
        )
    plain = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    with pytest.raises(BrokenGuaranteeError, match="another engine"):
        GradSamples(model, plain, losses).fill(default_collate([records[0]]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_record_that_is_not_finite_contributes_zero(bad: float) -> None:
    model = nn.Linear(2, 1)
    rows = torch.tensor([[1.0, 2.0], [bad, 1.0], [0.5, -1.0]])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    samples = GradSamples(model, optimizer, lambda m, batch: m(batch["x"]).square().sum(1))
    samples.fill({"x": rows})
    for parameter in model.parameters():
        grads = parameter.grad_sample  # type: ignore[attr-defined]  # opacus' name
        assert bool(torch.isfinite(grads).all())
        assert not bool(grads[1].any())
        assert bool(grads[0].any())


def test_an_optimiser_of_other_parameters_is_refused(
    prepare: Prepare, losses: PerRecordLoss
) -> None:
    model = prepare("lora", "bert")
    some = [p for p in model.parameters() if p.requires_grad][1:]
    with pytest.raises(BrokenGuaranteeError, match="exactly the trainable parameters"):
        GradSamples(model, torch.optim.SGD(some, lr=RATE), losses)


def test_a_model_that_changed_is_refused_even_for_an_empty_batch() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    samples = GradSamples(model, optimizer, lambda m, batch: m(batch["x"]).square().sum(1))
    model.weight = nn.Parameter(torch.zeros(1, 2))
    with pytest.raises(BrokenGuaranteeError, match="new tensors"):
        samples.fill({"x": torch.empty(0, 2)})
