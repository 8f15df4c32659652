"""Low-rank changes add up by concatenation, exactly, and say what a lower rank would cost."""

from typing import Any

import pytest
import torch

from dpft.adapters.algebra import Dense, LowRank, combine
from dpft.adapters.algebra.layout import Layout
from dpft.errors import ConfigurationError

OUTPUTS, INPUTS = 12, 9


def part(seed: int, rank: int = 3, layout: Layout = Layout.LINEAR) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(OUTPUTS, rank, generator=generator)
    return LowRank(left, torch.randn(rank, INPUTS, generator=generator), layout)


def matrix(low: Any) -> torch.Tensor:
    product: torch.Tensor = low.left.double() @ low.right.double()
    return product


def test_sums_are_exact_for_other_ranks_weights_and_signs() -> None:
    terms = [(1.0, part(1, 3)), (-0.7, part(2, 5)), (0.2, part(3, 1))]
    made = LowRank.combined(terms)
    expected = torch.stack([weight * matrix(each) for weight, each in terms]).sum(0)
    assert made.rank == 9
    assert float((matrix(made) - expected).norm() / expected.norm()) < 1e-6


def test_averaging_factors_is_not_the_sum() -> None:
    one, other = part(1), part(2)
    naive = (one.left + other.left).double() @ (one.right + other.right).double()
    expected = matrix(one) + matrix(other)
    assert float((naive - expected).norm() / expected.norm()) > 0.5  # why it is never done


def test_one_second_factor_keeps_the_rank() -> None:
    one = part(1)
    other = LowRank(part(2).left, one.right.clone())
    made = LowRank.combined([(1.0, one), (-0.7, other)])
    assert made.rank == 3
    expected = matrix(one) - 0.7 * matrix(other)
    assert float((matrix(made) - expected).norm() / expected.norm()) < 1e-6


def test_the_spectrum_is_that_of_the_dense_matrix() -> None:
    made = LowRank.combined([(1.0, part(1)), (1.0, part(2))])
    spectrum, values = made.spectrum(), torch.linalg.svdvals(matrix(made))
    assert torch.allclose(spectrum.values, values[:6], rtol=1e-6)
    for rank in range(1, 7):
        cut = made.truncated(spectrum, rank)
        error = float((matrix(cut) - matrix(made)).norm() / matrix(made).norm())
        assert spectrum.error(rank) == pytest.approx(error, abs=1e-6)
        assert spectrum.error(rank) == pytest.approx(
            float(values[rank:].norm() / values.norm()), abs=1e-6
        )


def test_a_tolerance_takes_the_smallest_rank() -> None:
    spectrum = part(1, 5).spectrum()
    for tolerance in (0.0, 0.1, 0.5, 0.9):
        rank = spectrum.rank_for(tolerance + 1e-9)
        assert spectrum.error(rank) <= tolerance + 1e-9
        assert rank == 1 or spectrum.error(rank - 1) > tolerance


def test_nothing_has_no_error() -> None:
    nothing = LowRank(torch.zeros(4, 2), torch.ones(2, 3))
    assert nothing.spectrum().error(1) == 0.0
    assert nothing.spectrum().rank_for(0.0) == 1


@pytest.mark.parametrize("layout", [Layout.CONV1D, Layout.EMBEDDING])
def test_transposed_weights_are_transposed_in_the_dense_change(layout: Layout) -> None:
    low = part(1, layout=layout)
    assert torch.allclose(low.dense(), (low.left @ low.right).T)


def test_a_dense_and_a_low_rank_change_add_up_densely() -> None:
    low, dense = part(1, layout=Layout.CONV1D), Dense(torch.ones(INPUTS, OUTPUTS))
    made = combine([(2.0, low), (-1.0, dense)])
    assert isinstance(made, Dense)
    assert made.layout is Layout.CONV1D
    assert torch.allclose(made.added, 2 * low.dense() - 1)


def test_other_shapes_and_layouts_are_refused() -> None:
    wide = LowRank(torch.ones(OUTPUTS, 1), torch.ones(1, INPUTS + 1))
    for other, match in ((wide, "shapes"), (part(2, layout=Layout.CONV1D), "layout")):
        with pytest.raises(ConfigurationError, match=match):
            combine([(1.0, part(1)), (1.0, other)])
