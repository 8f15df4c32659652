"""Matrices are cut when they are read, with their exact errors."""

import pytest
import torch

from dpft.adapters.algebra import Delta, Dense, Family, LowRank
from dpft.adapters.algebra.layout import Layout
from dpft.errors import ConfigurationError
from dpft.taskvectors.cutting import Cut, CutParts, cut_shapes
from dpft.taskvectors.storing import shapes_of


def delta() -> Delta:
    torch.manual_seed(4)
    low = LowRank(torch.randn(6, 4), torch.randn(4, 5))
    dense = Dense(torch.randn(5, 6), Layout.CONV1D)
    return Delta(
        Family.WEIGHTS, {"a.weight": low, "b.weight": dense, "b.bias": Dense(torch.ones(5))}
    )


def test_errors_are_those_of_the_matrices() -> None:
    whole, cuts = delta(), CutParts(delta(), Cut(rank=2))
    lost, total = 0.0, 0.0
    for place in ("a.weight", "b.weight"):
        part, kept = whole.parts[place], cuts[place]
        assert isinstance(part, LowRank | Dense)
        assert isinstance(kept, LowRank)
        gap = (part.dense() - kept.dense()).norm()
        assert cuts.errors[place] == pytest.approx(float(gap / part.dense().norm()), rel=1e-5)
        lost, total = lost + float(gap) ** 2, total + float(part.dense().norm()) ** 2
    assert cuts.error == pytest.approx((lost / total) ** 0.5, rel=1e-5)
    assert cuts["b.bias"] is not None
    assert set(cuts.errors) == {"a.weight", "b.weight"}


def test_shapes_are_known_before_anything_is_cut() -> None:
    shapes = cut_shapes(shapes_of(delta()), Cut(rank=2))
    cuts = CutParts(delta(), Cut(rank=2))
    for place, part in shapes.parts.items():
        found = {name: each.shape for name, each in cuts[place].tensors().items()}
        assert {name: each.shape for name, each in part.tensors().items()} == found


@pytest.mark.parametrize(
    ("rank", "tolerance"), [(None, None), (2, 0.1), (0, None), (True, None), (None, 1.0)]
)
def test_a_cut_that_says_nothing_or_too_much_is_refused(
    rank: int | None, tolerance: float | None
) -> None:
    with pytest.raises(ConfigurationError, match="one of rank"):
        Cut(rank, tolerance)


def test_a_rank_above_the_exact_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rank=6 <= 5"):
        cut_shapes(shapes_of(delta()), Cut(rank=6))
