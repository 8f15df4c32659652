"""Per-record gradients against a loop over single records: every method on every architecture.

The error is the one the library promises: the largest, over parameters and records, of
|G_b - ref_b| / max(|ref_b of this parameter|, 1e-3 x |whole gradient of record b|).
"""

from collections.abc import Callable, Mapping

import pytest
import torch
from peft import PeftConfig, get_peft_model
from torch import nn

import dpft
from dpft.engine.attachment import PerRecordLoss

Batch = Mapping[str, torch.Tensor]
Loop = Callable[[nn.Module, Batch, PerRecordLoss], dict[str, torch.Tensor]]
Error = Callable[[Batch, Batch], float]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
ARCHITECTURES = ("bert", "roberta", "gpt2", "t5", "llama")
METHODS = (
    "lora",
    "rslora",
    "dora",
    "lora_bias",
    "lora_embedding",
    "lora_head",
    "ia3",
    "prompt",
    "p_tuning",
    "p_tuning_lstm",
    "prefix",
    "prefix_projection",
    "layer_norm",
    "vera",
    "lokr",
    "loha",
    "adalora",
    "bitfit",
    "full",
)
LEFT_OUT = {
    "lokr-gpt2": "PEFT's LoKr takes no Conv1D, and GPT-2's blocks have nothing else",
    "loha-gpt2": "PEFT's LoHa takes no Conv1D, and GPT-2's blocks have nothing else",
    "bitfit-t5": "T5 has no biases",
    "bitfit-llama": "Llama has no biases",
}
CASES = [
    pytest.param(method, architecture, id=f"{method}-{architecture}")
    for method in METHODS
    for architecture in ARCHITECTURES
    if f"{method}-{architecture}" not in LEFT_OUT
]


@pytest.mark.parametrize(("method", "architecture"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_gradients_equal_a_loop_over_single_records(
    method: str,
    architecture: str,
    dtype: torch.dtype,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, batch = prepare(method, architecture, dtype), texts()
    expected = loop(model, batch, losses)
    assert all(bool(grads.any()) for grads in expected.values())  # no case may be vacuous
    got = dpft.per_record_gradients(model, losses, batch)
    assert error(got, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("method", ["lokr", "loha"])
def test_cases_left_out_for_conv1d_are_refused_by_peft(
    method: str, build: Callable[[str, float], nn.Module], adapter: Callable[..., PeftConfig]
) -> None:
    assert f"{method}-gpt2" in LEFT_OUT
    with pytest.raises(TypeError, match="Conv1D"):
        get_peft_model(build("gpt2", 0.0), adapter(method, "gpt2"))


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_cases_left_out_for_want_of_biases_have_none(
    architecture: str, build: Callable[[str, float], nn.Module]
) -> None:
    assert f"bitfit-{architecture}" in LEFT_OUT
    names = [name for name, _ in build(architecture, 0.0).named_parameters()]
    assert not any(name.endswith("bias") for name in names)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("batch", [1, 7], ids=["one_record", "as_many_records_as_tokens"])
def test_batches_of_odd_size_are_exact(
    architecture: str,
    batch: int,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model, data = prepare("full", architecture), texts(batch, 7)
    expected = loop(model, data, losses)
    assert error(dpft.per_record_gradients(model, losses, data), expected) <= 1e-9


@pytest.mark.parametrize(
    ("architecture", "part"),
    [
        ("gpt2", "wpe"),
        ("bert", "position_embeddings"),
        ("t5", "relative_attention_bias"),
        ("gpt2", "wte"),  # tied to the head
        ("t5", "shared"),  # both stacks' words and the head
    ],
)
def test_broadcast_and_tied_tables_are_exact_on_their_own(
    architecture: str,
    part: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    loop: Loop,
    error: Error,
) -> None:
    model = prepare("full", architecture)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part in name)
    data = texts(7, 7)  # a [T, T] index could be taken for a batch
    expected = loop(model, data, losses)
    assert expected
    assert all(bool(grads.any()) for grads in expected.values())
    assert error(dpft.per_record_gradients(model, losses, data), expected) <= 1e-9


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("method", ["lora", "ia3", "full"])
def test_dropout_masks_are_those_of_the_pass(
    method: str,
    architecture: str,
    prepare: Callable[..., nn.Module],
    texts: Callable[..., dict[str, torch.Tensor]],
    losses: PerRecordLoss,
    error: Error,
) -> None:
    model, data = prepare(method, architecture, dropout=0.3), texts()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    torch.manual_seed(11)
    plain = losses(model, data)
    rows = [torch.autograd.grad(one, list(named.values()), retain_graph=True) for one in plain]
    expected = {n: torch.stack(g) for n, g in zip(named, zip(*rows, strict=True), strict=True)}
    torch.manual_seed(11)
    got = dpft.per_record_gradients(model, losses, data)
    assert error(got, expected) <= 1e-9
    torch.manual_seed(12)
    assert error(dpft.per_record_gradients(model, losses, data), expected) > 1e-3
