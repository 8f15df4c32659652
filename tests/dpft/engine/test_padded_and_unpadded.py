"""Models leave a mask out that hides nothing: other operations, and the same gradients."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from dpft.engine.attachment import Engine, PerRecordLoss

_Gradients = Mapping[str, torch.Tensor]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2", "t5", "llama"])
@pytest.mark.parametrize("method", ["full", "lora", "prefix"])
def test_batches_with_and_without_padding_take_turns(
    method: str,
    architecture: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Callable[[nn.Module, _Gradients, PerRecordLoss], dict[str, torch.Tensor]],
    error: Callable[[_Gradients, _Gradients], float],
) -> None:
    model = prepare(method, architecture)
    engine = Engine(model, losses)
    padded = texts()
    whole = {**padded, "attention_mask": torch.ones_like(padded["attention_mask"])}
    single = {name: value[:1] for name, value in whole.items()}

    for batch in (padded, whole, single, padded, whole):
        got = engine.raw_gradients(batch)
        expected = loop(model, batch, losses)
        reached = {name: grads for name, grads in expected.items() if name in got}
        assert error(got, reached) <= 1e-9
        assert not any(bool(grads.any()) for name, grads in expected.items() if name not in got)
