"""What several tests of the engine compare with: a loop over single records."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from dpft.engine.attachment import PerRecordLoss

Gradients = Mapping[str, torch.Tensor]


def _loop(model: nn.Module, batch: Gradients, loss: PerRecordLoss) -> dict[str, torch.Tensor]:
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in named}
    for index in range(len(next(iter(batch.values())))):
        one = {name: value[index : index + 1] for name, value in batch.items()}
        grads = torch.autograd.grad(loss(model, one).sum(), list(named.values()), allow_unused=True)
        for (name, parameter), grad in zip(named.items(), grads, strict=True):
            rows[name].append(torch.zeros_like(parameter) if grad is None else grad)
    return {name: torch.stack(each) for name, each in rows.items()}


def _error(got: Gradients, expected: Gradients) -> float:
    assert got.keys() == expected.keys()
    whole = torch.stack([_norms(ref) for ref in expected.values()]).norm(dim=0)
    worst = 0.0
    for name, ref in expected.items():
        scale = torch.maximum(_norms(ref), 1e-3 * whole)
        worst = max(worst, float((_norms(got[name] - ref) / scale).max()))
    return worst


def _norms(grads: torch.Tensor) -> torch.Tensor:
    return grads.reshape(len(grads), -1).norm(dim=1)


@pytest.fixture
def loop() -> Callable[[nn.Module, Gradients, PerRecordLoss], dict[str, torch.Tensor]]:
    """Return per-record gradients by one backward pass a record."""
    return _loop


@pytest.fixture
def error() -> Callable[[Gradients, Gradients], float]:
    """Return max |G_b - ref_b| / max(|ref_b|, 1e-3 |whole ref_b|) over parameters and records."""
    return _error
