import math
from collections.abc import Callable

import pytest
import torch

from dpft.adapters.phm import (
    PHMLinear,
    PHMRule,
    PHMSizes,
    block_width,
    kronecker_sum,
    phm_by_factors,
    phm_by_one_product,
    phm_linear,
)
from dpft.errors import ConfigurationError

Form = Callable[..., torch.Tensor]
FORMS = [phm_by_factors, phm_by_one_product, phm_linear]
# blocks, width of one in, width of one out, rank
SIZES = [(4, 6, 2, 1), (4, 2, 6, 3), (2, 5, 1, 2), (1, 3, 4, 1), (3, 40, 40, 1)]
Numbers = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def numbers(sizes: tuple[int, int, int, int]) -> Numbers:
    n, a, c, k = sizes
    torch.manual_seed(0)
    shapes = ((n, n, n), (n, a, k), (n, k, c), (n * c,))
    rule, left, right, bias = (torch.randn(*shape, dtype=torch.float64) for shape in shapes)
    return rule, left, right, bias


def summed(rule: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.stack(
        [torch.kron(s, a @ b) for s, a, b in zip(rule, left, right, strict=True)]
    ).sum(0)


def gap(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [(), (5,), (2, 3)])
def test_every_form_is_the_sum_of_kronecker_products(
    form: Form, sizes: tuple[int, int, int, int], rows: tuple[int, ...]
) -> None:
    rule, left, right, bias = numbers(sizes)
    x = torch.randn(*rows, sizes[0] * sizes[1], dtype=torch.float64)
    expected = x @ summed(rule, left, right)
    assert gap(form(x, rule, left, right, bias), expected + bias) <= 1e-12
    assert gap(form(x, rule, left, right, None), expected) <= 1e-12


@pytest.mark.parametrize("sizes", SIZES)
def test_the_matrix_that_is_formed_is_the_sum_of_kronecker_products(
    sizes: tuple[int, int, int, int],
) -> None:
    rule, left, right, _ = numbers(sizes)
    assert gap(kronecker_sum(rule, left, right), summed(rule, left, right)) <= 1e-12


def test_blocks_mix_as_the_index_form_says() -> None:
    rule, left, right, bias = numbers((2, 3, 2, 1))
    x = torch.randn(6, dtype=torch.float64)
    expected = bias.clone().reshape(2, 2)
    for q in range(2):
        for c in range(2):
            for i in range(2):
                for p in range(2):
                    for a in range(3):
                        within = (left[i] @ right[i])[a, c]
                        expected[q, c] += x.reshape(2, 3)[p, a] * rule[i, p, q] * within
    assert gap(phm_linear(x, rule, left, right, bias), expected.reshape(-1)) <= 1e-12


@pytest.mark.parametrize(
    ("inputs", "outputs", "blocks", "rank", "form"),
    [
        (768, 24, 4, 1, "phm_by_one_product"),
        (24, 768, 4, 1, "phm_by_one_product"),
        (768, 48, 4, 1, "phm_by_factors"),
        (4096, 128, 4, 4, "phm_by_factors"),
        (4096, 128, 4, 8, "phm_by_one_product"),
    ],
)
def test_the_form_is_chosen_by_how_many_multiplications_it_saves(
    inputs: int, outputs: int, blocks: int, rank: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpft.adapters import phm

    layer = PHMLinear(inputs, outputs, PHMSizes(blocks, rank))
    taken: list[str] = []
    for name in ("phm_by_one_product", "phm_by_factors"):
        monkeypatch.setattr(phm, name, lambda *_, name=name: taken.append(name))
    for rows in (1, 300):
        layer(torch.ones(rows, inputs), PHMRule(blocks, 1.0)())
    assert taken == [form, form]


def test_a_factorised_rule_is_the_product_of_columns_and_rows() -> None:
    rule = PHMRule(3, 1.0, factorised=True)
    assert sum(parameter.numel() for parameter in rule.parameters()) == 18
    expected = [torch.outer(rule.left[i, :, 0], rule.right[i, 0]) for i in range(3)]
    torch.testing.assert_close(rule(), torch.stack(expected))


def test_a_full_rule_is_the_parameter_itself() -> None:
    rule = PHMRule(3, 1.0)
    assert rule() is rule.full
    assert rule.full.shape == (3, 3, 3)


@pytest.mark.parametrize("factorised", [False, True])
@pytest.mark.parametrize("init_range", [1e-4, 0.01])
def test_the_rule_begins_with_normal_drawnof_the_range_asked_for(
    factorised: bool, init_range: float
) -> None:
    torch.manual_seed(0)
    drawn = torch.cat(
        [p.detach().flatten() for p in PHMRule(40, init_range, factorised=factorised).parameters()]
    )
    spread = float(drawn.std())
    assert spread == pytest.approx(init_range, rel=0.05)
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.1 * init_range)
    assert float(drawn.abs().max()) > 2.5 * spread  # no uniform numbers


@pytest.mark.parametrize("name", ["left", "right"])
def test_factors_begin_uniform_after_glorot_for_each_block(name: str) -> None:
    torch.manual_seed(0)
    layer = PHMLinear(2 * 300, 2 * 200, PHMSizes(blocks=2, rank=50))
    width = {"left": 300, "right": 200}[name]
    bound = math.sqrt(2) * math.sqrt(6 / (width + 50))
    for factor in getattr(layer, name).detach():
        assert float(factor.abs().max()) <= bound
        assert float(factor.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_the_bias_begins_at_zero_and_can_be_left_out() -> None:
    sizes = PHMSizes(blocks=2, rank=1)
    with_bias = PHMLinear(6, 4, sizes)
    assert with_bias.bias is not None
    assert not with_bias.bias.any()
    assert PHMLinear(6, 4, sizes, bias=False).bias is None


@pytest.mark.parametrize(("inputs", "outputs"), [(10, 8), (8, 10)])
def test_blocks_that_do_not_divide_a_width_are_refused(inputs: int, outputs: int) -> None:
    field = "in_features" if inputs == 10 else "out_features"
    with pytest.raises(ConfigurationError, match=f"phm_dim=4 to divide {field}=10"):
        PHMLinear(inputs, outputs, PHMSizes(blocks=4, rank=1))


@pytest.mark.parametrize("blocks", [0, -2])
def test_no_blocks_are_refused(blocks: int) -> None:
    with pytest.raises(ConfigurationError, match=f"phm_dim={blocks}"):
        block_width(blocks, "hidden_size", 16)
