"""Every rule agrees with the generic one, which knows nothing of the operation."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional

import dpft
from dpft.engine import interception
from dpft.engine.attachment import Engine
from dpft.engine.boundary import Call
from dpft.engine.rules import generic, rule_for
from dpft.engine.rules.generic import GENERIC

Batch = Mapping[str, torch.Tensor]
WIDTH, WORDS = 4, 7
OPERATIONS: dict[str, Callable[[Batch, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "linear": lambda b, w, v: functional.linear(b["x"], w, v),
    "linear_of_one_token": lambda b, w, v: functional.linear(b["x"][:, 0], w, v),
    "addmm": lambda b, w, v: torch.addmm(v, b["x"].reshape(-1, WIDTH), w).view(b["x"].shape),
    "matmul": lambda b, w, v: b["x"] @ w + v,
    "embedding": lambda b, w, v: functional.embedding(b["ids"], torch.cat([w, w])) + v,
    "padded": lambda b, w, v: functional.embedding(b["ids"], torch.cat([w, w]), padding_idx=-8) + v,
    "layer_norm": lambda b, w, v: functional.layer_norm(b["x"], (WIDTH,), w[0], v),
    "layer_norm_without_bias": lambda b, w, v: functional.layer_norm(b["x"], (WIDTH,), v) + w[0],
    "rms_norm": lambda b, w, v: functional.rms_norm(b["x"], (WIDTH,), v) + w[0],
    "rms_norm_by_name": lambda b, w, v: torch.rms_norm(
        input=b["x"].sin(), normalized_shape=(5, WIDTH), weight=w[0] * v.repeat(5, 1), eps=0.1
    ),
    "add": lambda b, w, v: b["x"] + v + w[1],
    "subtract": lambda b, w, v: (b["x"] - v).tanh() - w[2],
    "multiply": lambda b, w, v: v * b["x"] * w[0],
}
EXPECTED_RULES = {
    "linear": "_Affine",
    "linear_of_one_token": "_Affine",
    "addmm": "_Affine",
    "matmul": "_Affine",
    "embedding": "_Embedding",
    "padded": "_Embedding",
    "layer_norm": "_LayerNorm",
    "layer_norm_without_bias": "_LayerNorm",
    "rms_norm": "_RmsNorm",
    "rms_norm_by_name": "_RmsNorm",
    "add": "_Elementwise",
    "subtract": "_Elementwise",
    "multiply": "_Elementwise",
}


class Applies(nn.Module):
    """One operation on the records, a matrix and a vector."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.vector = nn.Parameter(torch.randn(WIDTH))
        self.operation = OPERATIONS[operation]

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.operation(batch, self.weight, self.vector)


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch).sin().flatten(1).sum(1)


def records() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "x": torch.randn(3, 5, WIDTH, dtype=torch.float64, generator=generator),
        "ids": torch.randint(0, WORDS, (3, 5), generator=generator),
    }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_rule_agrees_with_the_generic_one(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data, used = Applies(operation).double(), records(), set()

    def noted(call: Call) -> object:
        rule = rule_for(call)
        used.add(type(rule).__name__)
        return rule

    monkeypatch.setattr(interception, "rule_for", noted)
    by_rule = dpft.per_record_gradients(model, loss, data)
    assert EXPECTED_RULES[operation] in used
    monkeypatch.setattr(interception, "rule_for", lambda _: GENERIC)
    by_generic = dpft.per_record_gradients(model, loss, data)
    for name, grads in by_rule.items():
        assert grads.abs().sum() > 0
        torch.testing.assert_close(grads, by_generic[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("out of memory")],
)
def test_a_lack_of_memory_passes_through_the_generic_rule_as_it_is(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_given: object) -> None:
        raise error

    class Squaring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.hypot(x, self.weight).sum(1)

    monkeypatch.setattr(generic, "_pull_each_record", lacking)
    model = Squaring()
    engine = Engine(model, lambda model, batch: model(batch["x"]))
    with pytest.raises(type(error)) as raised:
        engine.gradients({"x": torch.ones(2, WIDTH)})
    assert raised.value is error
    assert type(model.weight) is nn.Parameter
    assert model.weight.grad is None
