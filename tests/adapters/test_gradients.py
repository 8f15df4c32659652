"""Per-record gradients of every method on every architecture against a loop over single records."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

import dpft
from dpft import adapters

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.usefixtures("norms_in_double"),
]
Tensors = Mapping[str, torch.Tensor]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
ARCHITECTURES = ("bert", "roberta", "gpt2", "t5", "llama")
WITHOUT_BIASES = ("t5", "llama")
PROMPT = {"num_virtual_tokens": 3}
NARROW = {"reduction_factor": 4}
NORMS = {"ln_before": True, "ln_after": True}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "attempt": ("attempt", {**PROMPT, "bottleneck": 5, "temperature": 4.0}),
    "bitfit": ("bitfit", {}),
    "compacter": ("compacter", NARROW),
    "compacter_own_rules": ("compacter", {**NARROW, "shared_rule": False}),
    "compacter_plus_plus": ("compacter", {**NARROW, "placement": "feed_forward"}),
    "factorised_rule": ("compacter", {**NARROW, "factorised_rule": True}),
    "ffa_lora": ("ffa_lora", {}),
    "houlsby": ("bottleneck", NARROW),
    "houlsby_norms": ("bottleneck", {**NARROW, **NORMS}),
    "ia3": ("ia3", {}),
    "pfeiffer": ("bottleneck", {**NARROW, "placement": "pfeiffer"}),
    "pfeiffer_norms": ("bottleneck", {**NARROW, **NORMS, "placement": "pfeiffer"}),
    "prefix": ("prefix", PROMPT),
    "prefix_projected": (
        "prefix",
        {**PROMPT, "prefix_projection": True, "encoder_hidden_size": 6},
    ),
    "prompt": ("prompt", PROMPT),
}
CASES = [
    pytest.param(method, architecture, id=f"{method}-{architecture}")
    for method in METHODS
    for architecture in ARCHITECTURES
    if method != "bitfit" or architecture not in WITHOUT_BIASES
]


@pytest.mark.parametrize(("method", "architecture"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_gradients_equal_a_loop_over_single_records(
    method: str,
    architecture: str,
    dtype: torch.dtype,
    tiny: Callable[..., Any],
    stirred: Callable[..., nn.Module],
    texts: Callable[..., Tensors],
    losses: Any,
    loop: Callable[..., Tensors],
    gradient_error: Callable[..., float],
) -> None:
    name, options = METHODS[method]
    model = stirred(adapters.build(name, tiny(architecture), **options).to(dtype))
    batch = texts(architecture)
    expected = loop(model, batch)
    assert all(bool(grads.any()) for grads in expected.values())  # no case may be vacuous
    got = dpft.per_record_gradients(model, losses, batch)
    assert gradient_error(got, expected) <= TOLERANCE[dtype]
