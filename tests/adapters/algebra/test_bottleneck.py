"""Networks side by side are one network with a concatenated bottleneck."""

from typing import Any

import pytest
import torch
from torch import nn

from dpft.adapters.algebra import Bottleneck, Dense, combine
from dpft.adapters.algebra.bottleneck import padded
from dpft.errors import ConfigurationError

WIDTH = 8


def part(seed: int, inner: int = 3, norms: Any = None) -> Bottleneck:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return Bottleneck(draw(inner, WIDTH), draw(inner), draw(WIDTH, inner), draw(WIDTH), norms or {})


def output(network: Any, hidden: torch.Tensor) -> torch.Tensor:
    inner = nn.functional.gelu(hidden @ network.down.T + network.down_bias)
    result: torch.Tensor = inner @ network.up.T + network.up_bias
    return result


def test_the_weighted_sum_is_exact_for_other_widths() -> None:
    hidden = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    terms = [(1.0, part(1, 3)), (-0.5, part(2, 2))]
    made = combine(terms)
    expected = torch.stack([weight * output(each, hidden) for weight, each in terms]).sum(0)
    assert torch.allclose(output(made, hidden), expected, rtol=0, atol=1e-13)


def test_negation_is_on_the_way_out_alone() -> None:
    hidden = torch.ones(1, WIDTH, dtype=torch.float64)
    negated = combine([(-1.0, part(1))])
    assert torch.equal(output(negated, hidden), -output(part(1), hidden))


def test_idle_units_change_nothing() -> None:
    hidden = torch.ones(1, WIDTH, dtype=torch.float64)
    wide = padded(part(1), 7)
    assert wide.width == 7
    assert torch.allclose(output(wide, hidden), output(part(1), hidden), rtol=0, atol=1e-14)


def test_a_norm_inside_has_no_sum_and_no_multiple() -> None:
    normed = part(1, norms={"norm_before.weight": torch.ones(WIDTH)})
    assert combine([(1.0, normed)]) is normed
    for terms in ([(2.0, normed)], [(1.0, normed), (1.0, part(2))]):
        with pytest.raises(ConfigurationError, match="LayerNorm"):
            combine(terms)


def test_parts_of_other_kinds_have_no_sum() -> None:
    with pytest.raises(ConfigurationError, match="one kind"):
        combine([(1.0, part(1)), (1.0, Dense(torch.ones(WIDTH)))])
