"""Models leave a mask out that hides nothing: other operations, and the same gradients."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import T5Config, T5ForSequenceClassification

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


def test_pooling_at_ends_of_sequences_is_exact(
    loop: Callable[[nn.Module, _Gradients, PerRecordLoss], dict[str, torch.Tensor]],
    error: Callable[[_Gradients, _Gradients], float],
) -> None:
    """The model selects by a mask, and gives records a dimension of their own afterwards."""
    config = T5Config(
        vocab_size=20, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, num_labels=2,
        decoder_start_token_id=0, eos_token_id=1, dropout_rate=0.0,
    )  # fmt: skip
    model = T5ForSequenceClassification(config).double()

    def losses(model: nn.Module, batch: _Gradients) -> torch.Tensor:
        logits = model(input_ids=batch["input_ids"]).logits
        return functional.cross_entropy(logits, batch["labels"], reduction="none")

    batch = {"input_ids": torch.randint(2, 20, (4, 6)), "labels": torch.tensor([0, 1, 1, 0])}
    batch["input_ids"][:, -1] = 1
    got = Engine(model, losses).raw_gradients(batch)
    expected = loop(model, batch, losses)
    assert error(got, {name: expected[name] for name in got}) <= 1e-9
