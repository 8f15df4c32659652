"""Sums of outer products against the gradients in full."""

import itertools
import math

import pytest
import torch

from dpft.engine import outer as outer_module
from dpft.engine.boundary import _own
from dpft.engine.outer import Dense, OneHot, Outer, gram_products, raw_squared_norms, row_norms
from dpft.engine.precision import full_precision
from dpft.engine.record_gradients import RecordGradients

BATCH, TERMS, ROWS, COLUMNS = 3, 5, 7, 4


def side(kind: str, width: int, terms: int = TERMS, seed: int = 0) -> Dense | OneHot:
    generator = torch.Generator().manual_seed(seed)
    if kind == "one_hot":
        return OneHot(torch.randint(0, width, (BATCH, terms), generator=generator), width)
    return Dense(torch.randn(BATCH, terms, width, dtype=torch.float64, generator=generator))


def full(outer: Outer) -> torch.Tensor:
    """Return the gradients by the definition."""
    left, right = (
        torch.nn.functional.one_hot(s.index, s.width).double()
        if isinstance(s, OneHot)
        else s.values
        for s in (outer.left, outer.right)
    )
    return torch.einsum("bnp,bnd->bpd", left, right)


KINDS = [("dense", "dense"), ("one_hot", "dense"), ("dense", "one_hot")]
SITES = {
    f"{left}-{right}": Outer(side(left, ROWS, seed=i), side(right, COLUMNS, seed=i + 9))
    for i, (left, right) in enumerate(KINDS)
}
MORE = {
    f"{left}-{right}": Outer(side(left, ROWS, 3, i + 20), side(right, COLUMNS, 3, i + 29))
    for i, (left, right) in enumerate(KINDS)
}


@pytest.mark.parametrize("outer", SITES.values(), ids=SITES.keys())
def test_instantiated_is_the_definition(outer: Outer) -> None:
    assert torch.allclose(outer.instantiated().double(), full(outer), rtol=1e-12)
    transposed = outer.transposed().instantiated().double()
    assert torch.allclose(transposed, full(outer).transpose(1, 2), rtol=1e-12)


@pytest.mark.parametrize("outer", SITES.values(), ids=SITES.keys())
def test_the_weighted_sum_is_that_of_the_full_gradients(outer: Outer) -> None:
    factors = torch.tensor([0.5, 2.0, 0.25], dtype=torch.float64)
    total = torch.ones(ROWS, COLUMNS, dtype=torch.float64)
    outer.add_weighted(factors, total)
    expected = 1 + torch.einsum("b,bpd->pd", factors, full(outer))
    assert torch.allclose(total, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("one", "other"),
    [pytest.param(a, b, id=f"{a}+{b}") for a, b in itertools.product(SITES, MORE)],
)
@pytest.mark.parametrize("entries", [2**24, 1], ids=["at_once", "record_by_record"])
@pytest.mark.parametrize("by_gram", [True, False], ids=["gram", "chunked"])
def test_norms_of_several_sites_hold_their_cross_terms(
    one: str, other: str, by_gram: bool, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outer_module, "_MAX_ENTRIES", entries)
    monkeypatch.setattr(outer_module, "gram_is_cheaper", lambda *_: by_gram)
    sites = [SITES[one], MORE[other], SITES[one]]
    expected = sum(full(site) for site in sites).flatten(1).square().sum(1)
    assert torch.allclose(raw_squared_norms(sites).double(), expected, rtol=1e-9)


def test_multiplications_of_gram_matrices_are_counted_pair_by_pair() -> None:
    dense, looked_up = SITES["dense-dense"], MORE["one_hot-dense"]
    own = dense.terms**2 * (ROWS + COLUMNS) + looked_up.terms**2 * (1 + COLUMNS)
    between = dense.terms * looked_up.terms * (1 + COLUMNS)
    assert gram_products([dense, looked_up]) == own + between


def test_one_term_a_record_needs_no_gram_matrix() -> None:
    one = Outer(side("dense", ROWS, 1), side("dense", COLUMNS, 1))
    expected = full(one).flatten(1).square().sum(1)
    assert torch.allclose(raw_squared_norms([one]), expected, rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 0.7])
def test_norms_of_many_equal_entries_are_exact(value: float) -> None:
    """One running sum in float32 would be off by more than the margin that clipping leaves."""
    side = 2**11
    rows = torch.full((1, side * side + 3), value)
    outer = Outer(Dense(torch.full((1, 1, side), value)), Dense(torch.ones(1, 1, side)))
    exact = float(rows[0, 0]) * side
    assert float(row_norms(rows)) == pytest.approx(exact, rel=2e-5)
    assert float(Dense(rows.unsqueeze(1)).lengths()) == pytest.approx(exact, rel=2e-5)
    assert float(RecordGradients.of({"w": rows}).raw_norms()) == pytest.approx(exact, rel=2e-5)
    assert float(outer_module._norms_in_full([outer])) == pytest.approx(exact**2, rel=1e-4)


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 1025, 2047, 2**20 + 5])
def test_norms_of_rows_of_any_length_are_those_of_float64(length: int) -> None:
    rows = torch.randn(2, length, generator=torch.Generator().manual_seed(length))
    assert torch.allclose(row_norms(rows).double(), rows.double().norm(dim=1), rtol=1e-5)
    assert row_norms(rows).dtype == rows.dtype


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("by_gram", [True, False], ids=["gram", "chunked"])
def test_norms_are_not_understated_when_terms_cancel(
    seed: int, by_gram: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outer_module, "gram_is_cheaper", lambda *_: by_gram)
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(BATCH, 40, 300, generator=generator)
    opposite = -half * (1 + 1e-7 * torch.randn(half.shape, generator=generator))
    right = torch.randn(BATCH, 40, 200, generator=generator)
    outer = Outer(Dense(torch.cat([half, opposite], 1)), Dense(torch.cat([right, right], 1)))
    exact = full(Outer(Dense(outer.left.values.double()), Dense(outer.right.values.double())))
    assert (raw_squared_norms([outer]).double() >= exact.flatten(1).square().sum(1)).all()


@pytest.mark.parametrize("by_gram", [True, False], ids=["gram", "chunked"])
def test_norms_are_not_understated_when_all_entries_round_alike(
    by_gram: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outer_module, "gram_is_cheaper", lambda *_: by_gram)
    factor, product = 1 + 2.0**-12, 1 + 2.0**-11  # rounded, factor squared is the product
    ones = torch.ones(1, 1, ROWS) * 2.0**20
    left = Dense(torch.cat([factor * ones, -product * ones], 1))
    right = Dense(torch.cat([factor * torch.ones(1, 1, COLUMNS), torch.ones(1, 1, COLUMNS)], 1))
    exact = (2.0**20 * (factor * factor - product)) ** 2 * ROWS * COLUMNS
    assert exact > 0
    assert float(raw_squared_norms([Outer(left, right)])) >= exact


@pytest.mark.parametrize(("small", "large"), [(1e-24, 1e18), (1e-30, 1e12), (1e-42, 1e17)])
@pytest.mark.parametrize("terms", [1, TERMS])
def test_norms_are_not_understated_when_products_vanish(
    small: float, large: float, terms: int
) -> None:
    left = Dense(torch.full((1, terms, ROWS), small))
    right = Dense(torch.full((1, terms, COLUMNS), large))
    exact = (small * large * terms) ** 2 * ROWS * COLUMNS
    for outer in (Outer(left, right), Outer(right, left)):
        assert float(raw_squared_norms([outer])) >= exact * (1 - 1e-3)


def test_rounding_up_is_small_beside_an_ordinary_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    outer = Outer(
        Dense(torch.randn(4, 64, 384, generator=generator)),
        Dense(torch.randn(4, 64, 384, generator=generator)),
    )
    exact = outer.instantiated().double().flatten(1).square().sum(1)
    assert ((raw_squared_norms([outer]).double() / exact - 1).abs() < 5e-3).all()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["left", "right"])
def test_a_record_of_factor_zero_adds_exactly_zero(broken: float, place: str) -> None:
    outer = Outer(side("dense", ROWS), side("dense", COLUMNS))
    expected = torch.einsum("b,bpd->pd", torch.tensor([1.0, 0, 1]).double(), full(outer))
    values = getattr(outer, place).values.clone()
    values[1, 2, 3] = broken
    spoiled = Outer(
        *[Dense(values) if n == place else getattr(outer, n) for n in ("left", "right")]
    )
    assert not torch.isfinite(raw_squared_norms([spoiled])[1])
    total = torch.zeros(ROWS, COLUMNS, dtype=torch.float64)
    spoiled.add_weighted(torch.tensor([1.0, 0, 1]), total)
    assert torch.allclose(total, expected, rtol=1e-12)


def test_a_result_that_shares_an_operands_memory_is_copied() -> None:
    operand = torch.randn(2, 3)
    shared, scratch = _own(operand.view(6), (operand,)), _own(torch.randn(6).view(2, 3), (operand,))
    shared += 1
    assert not torch.equal(shared.view(2, 3), operand)
    assert not scratch._is_view()


def test_the_users_own_precision_is_set_back() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            full_precision([torch.ones(1)]),
        ):
            assert torch.get_float32_matmul_precision() == "highest"
            assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype is torch.float32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_sixteen_bit_terms_are_multiplied_in_float32() -> None:
    left, right = (torch.randn(2, 300, 3).bfloat16() for _ in range(2))
    outer = Outer(Dense(left), Dense(right))
    expected = torch.einsum("bnp,bnd->bpd", left.double(), right.double())
    assert outer.instantiated().dtype is torch.float32
    assert torch.allclose(outer.instantiated().double(), expected, rtol=1e-4, atol=1e-4)
