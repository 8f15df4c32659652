"""Low precision: against a loop over single records run in the same precision.

bfloat16 keeps 8 bits, so one rounding is off by 2^-9 relative and one unit in the last place is
2^-8. The engine and the loop carry out the same operations but add tokens and sites in another
order, each with a rounding of its own; through two blocks and back that adds up to a few units.
A wrong attribution is off by the size of the gradient itself.
"""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

import dpft
from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine, PerRecordLoss
from dpft.privacy import ClippingStyle

Batch = Mapping[str, torch.Tensor]
Loop = Callable[[nn.Module, Batch, PerRecordLoss], dict[str, torch.Tensor]]
Error = Callable[[Batch, Batch], float]
TOLERANCE = 8 * 2.0**-8
ARCHITECTURES = ("bert", "gpt2", "t5", "llama")
METHODS = ("lora", "ia3", "dora", "prompt", "layer_norm", "full")


def in_autocast(losses: PerRecordLoss) -> PerRecordLoss:
    """Return the loss computed under autocast."""

    def under(model: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return losses(model, batch)

    return under


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_weights_agree_with_their_own_loop(
    method: str,
    architecture: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, data = prepare(method, architecture, torch.bfloat16), texts()
    expected = loop(model, data, losses)
    assert error(dpft.per_record_gradients(model, losses, data), expected) <= TOLERANCE


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_float32_adapters_on_a_frozen_bfloat16_base_agree_with_their_own_loop(
    method: str,
    architecture: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, data = prepare(method, architecture, torch.bfloat16), texts()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_" in name:
            parameter.data = parameter.data.float()
    expected = loop(model, data, losses)
    got = dpft.per_record_gradients(model, losses, data)
    assert {grads.dtype for name, grads in got.items() if "lora_" in name} == {torch.float32}
    assert error(got, expected) <= TOLERANCE


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_autocast_agrees_with_its_own_loop(
    method: str,
    architecture: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, data = prepare(method, architecture, torch.float32), texts()
    expected = loop(model, data, in_autocast(losses))
    got = dpft.per_record_gradients(model, in_autocast(losses), data)
    assert error(got, expected) <= TOLERANCE


@pytest.mark.parametrize("method", ["lora", "full"])
def test_autocast_around_the_whole_pass_agrees_with_autocast_of_the_loss(
    method: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    error: Error,
) -> None:
    model, data = prepare(method, "gpt2", torch.float32), texts()
    inside = dpft.per_record_gradients(model, in_autocast(losses), data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around = dpft.per_record_gradients(model, losses, data)
    assert {grads.dtype for grads in around.values()} == {torch.float32}
    assert error(around, inside) <= TOLERANCE


@pytest.mark.parametrize("style", list(ClippingStyle))
@pytest.mark.parametrize("method", ["lora", "full"])
def test_autocast_around_a_step_never_reaches_the_clipping(
    method: str,
    style: ClippingStyle,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("captures", "record_gradients"):
        monkeypatch.setattr(f"dpft.engine.{module}.ghost_is_cheaper", lambda *_: True)
    model, data = prepare(method, "bert", torch.float32), texts()
    sums = []
    for around in (True, False):
        engine = Engine(model, losses if around else in_autocast(losses))
        total = ClippedSum(engine.parameters, style, 1e-3)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around):
            total.add(engine.gradients(data))
        sums.append(total.raw_sums)
    for name, part in sums[0].items():
        assert torch.allclose(part, sums[1][name], rtol=1e-5, atol=1e-9)
