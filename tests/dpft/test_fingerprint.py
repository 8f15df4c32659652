"""Weights in few bits are compared by all that they are stored as, scales included."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from dpft import Privacy
from dpft.fingerprint import fingerprint, stored_parts
from dpft.preflight import _sums  # that it sees scales is a claim of its own

PLAN = Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=10, steps=3).plan(100)


def digest(weight: nn.Parameter) -> object:
    model = nn.Module()
    model.weight = weight
    return fingerprint(model, PLAN, None, generator="x")["base model"]


def two(scale: float) -> nn.Parameter:
    """Return a weight of two tensors, as torchao's: it looks the same whatever its scale."""
    return nn.Parameter(TwoTensor(torch.ones(2, 2), torch.full((2, 2), scale)), requires_grad=False)


def four_bits(**changed: object) -> nn.Parameter:
    """Return a weight as bitsandbytes stores it, whose scales are themselves rounded."""
    weight = nn.Parameter(torch.ones(4, 1, dtype=torch.uint8), requires_grad=False)
    second = SimpleNamespace(absmax=torch.ones(1), code=torch.ones(3), offset=None, state2=None)
    state = {"absmax": torch.ones(2), "code": torch.ones(16), "offset": None, "state2": second}
    weight.quant_state = SimpleNamespace(**state | changed)  # type: ignore[attr-defined]  # theirs
    return weight


OTHER = SimpleNamespace(absmax=torch.zeros(1), code=torch.ones(3), state2=None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (two(1.0), two(2.0)),
        (four_bits(), four_bits(absmax=torch.full((2,), 2.0))),
        (four_bits(), four_bits(code=torch.zeros(16))),
        (four_bits(), four_bits(offset=torch.tensor(1.0))),
        (four_bits(), four_bits(state2=OTHER)),
        (four_bits(), nn.Parameter(torch.ones(4, 1, dtype=torch.uint8), requires_grad=False)),
    ],
)
def test_a_base_that_differs_in_its_scales_alone_is_another_one(
    one: nn.Parameter, other: nn.Parameter
) -> None:
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)
    sums = [_sums(nn.ParameterDict({"weight": each})) for each in (one, other)]
    assert sums[0] != sums[1], "a write to it is seen"


def test_a_plain_tensor_is_stored_as_itself() -> None:
    plain = torch.ones(2)
    assert stored_parts(plain)[0] is plain
    assert len(stored_parts(plain)) == 1
