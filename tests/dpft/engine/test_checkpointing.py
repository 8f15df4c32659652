"""Activation checkpointing, of both kinds, and backward passes on another thread."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import dpft
from dpft.engine.attachment import PerRecordLoss
from dpft.errors import BrokenGuaranteeError

Batch = Mapping[str, torch.Tensor]
Loop = Callable[[nn.Module, Batch, PerRecordLoss], dict[str, torch.Tensor]]
Error = Callable[[Batch, Batch], float]
WIDTH = 4
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
KINDS = pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "non_reentrant"])
CASES = pytest.mark.parametrize(
    ("method", "architecture"),
    [
        ("lora", "gpt2"),
        ("full", "gpt2"),
        ("dora", "gpt2"),
        ("bitfit", "bert"),
        ("full", "llama"),
        ("loha", "t5"),
        ("prompt", "gpt2"),
    ],
)


def checkpointed(model: nn.Module, *, reentrant: bool) -> nn.Module:
    """Return the model with checkpointing on; a frozen base then needs a gradient to start from."""
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.config.use_cache = False
    if reentrant and not model.get_input_embeddings().weight.requires_grad:
        model.enable_input_require_grads()
    return model


@pytest.fixture
def backward_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run backward passes on threads of their own, as CUDA does; return the threads' numbers."""
    plain = torch.autograd.backward
    threads: list[int] = []

    def backward(*args: Any, **kwargs: Any) -> None:
        if not torch._C._is_multithreading_enabled():
            plain(*args, **kwargs)
            return
        failures: list[BaseException] = []

        def run() -> None:
            threads.append(threading.get_ident())
            try:
                plain(*args, **kwargs)
            except BaseException as failure:  # noqa: BLE001 - raised again on the calling thread
                failures.append(failure)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]

    monkeypatch.setattr(torch.autograd, "backward", backward)
    return threads


@KINDS
@CASES
def test_gradients_are_exact_under_activation_checkpointing(
    method: str,
    architecture: str,
    reentrant: bool,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, data = prepare(method, architecture), texts()
    expected = loop(model, data, losses)
    checkpointed(model, reentrant=reentrant)
    assert error(dpft.per_record_gradients(model, losses, data), expected) <= 1e-9


@KINDS
@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradients_are_exact_when_backward_runs_on_another_thread(
    method: str,
    reentrant: bool,
    backward_on_a_thread: list[int],
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, data = prepare(method, "gpt2"), texts()
    expected = loop(model, data, losses)
    checkpointed(model, reentrant=reentrant)
    assert error(dpft.per_record_gradients(model, losses, data), expected) <= 1e-9
    assert backward_on_a_thread
    assert threading.get_ident() not in backward_on_a_thread


@KINDS
def test_dropout_is_the_same_when_it_is_recomputed(
    reentrant: bool,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    error: Error,
) -> None:
    model, data = prepare("full", "gpt2", dropout=0.3), texts()
    torch.manual_seed(11)
    expected = dpft.per_record_gradients(model, losses, data)
    checkpointed(model, reentrant=reentrant)
    torch.manual_seed(11)
    assert error(dpft.per_record_gradients(model, losses, data), expected) <= 1e-9


class Reparametrised(nn.Module):
    """A weight made outside the checkpointed region, and a shift made inside."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.left = nn.Parameter(torch.randn(WIDTH, 2))
        self.right = nn.Parameter(torch.randn(2, WIDTH))
        self.shift = nn.Parameter(torch.randn(WIDTH))
        self.scale = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.left @ self.right

        def region(x: torch.Tensor) -> torch.Tensor:
            x = x + self.shift.expand(x.shape)  # keeps what the plain operation does not
            x = functional.linear(x.tanh(), weight, self.shift)
            return functional.linear(x, self.scale * self.scale.sin()).tanh()

        return checkpoint(region, x.requires_grad_(), use_reentrant=self.reentrant)


def squares(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch["x"].clone()).square().flatten(1).sum(1)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # plain reference
@pytest.mark.parametrize("threaded", [False, True], ids=["same_thread", "another_thread"])
@KINDS
def test_expressions_made_outside_a_checkpointed_region_and_used_within_are_exact(
    reentrant: bool, threaded: bool, loop: Loop, error: Error, request: pytest.FixtureRequest
) -> None:
    model = Reparametrised(reentrant=False).double()
    data = {"x": torch.randn(5, 3, WIDTH, dtype=torch.float64)}
    expected = loop(model, data, squares)  # torch.autograd.grad knows no reentrant checkpoint
    model.reentrant = reentrant
    if threaded:
        request.getfixturevalue("backward_on_a_thread")
    assert error(dpft.per_record_gradients(model, squares, data), expected) <= 1e-9


def test_an_expression_that_leaves_a_reentrant_region_is_refused_and_its_gradient_deleted(
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
) -> None:
    model = checkpointed(prepare("full", "t5"), reentrant=True)  # block 0 hands its bias on
    with pytest.raises(BrokenGuaranteeError, match="relative_attention_bias"):
        dpft.per_record_gradients(model, losses, texts())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_expression_that_leaves_a_non_reentrant_region_is_exact(
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, data = prepare("full", "t5"), texts()
    expected = loop(model, data, losses)
    checkpointed(model, reentrant=False)
    assert error(dpft.per_record_gradients(model, losses, data), expected) <= 1e-9
