"""Compression reports the exact error of every matrix, and refuses what it cannot do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpft.errors import ConfigurationError
from dpft.taskvectors import TaskVector

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture
def total(vector: Callable[..., TaskVector]) -> TaskVector:
    """Return a sum of two LoRA of rank 4."""
    return vector("lora", 3, r=4) + vector("lora", 4, r=4)


def dense(vector: TaskVector, place: str) -> torch.Tensor:
    part: Any = vector.delta.parts[place]
    return part.dense().double()


def test_errors_are_those_of_the_dense_matrices(total: TaskVector) -> None:
    result = total.compress(rank=3)
    assert result.errors
    lost, whole = 0.0, 0.0
    for place, error in result.errors.items():
        old, new = dense(total, place), dense(result.vector, place)
        assert torch.linalg.matrix_rank(new.float()) <= 3
        assert error == pytest.approx(float((old - new).norm() / old.norm()), rel=1e-4)
        best = torch.linalg.svdvals(old)[3:].norm() / old.norm()
        assert error == pytest.approx(float(best), rel=1e-4)
        lost, whole = lost + float((old - new).norm() ** 2), whole + float(old.norm() ** 2)
    assert result.error == pytest.approx((lost / whole) ** 0.5, rel=1e-4)
    assert result.error > 0.1


def test_a_tolerance_is_kept_by_every_matrix_with_the_smallest_rank(total: TaskVector) -> None:
    result = total.compress(tol=0.3)
    assert all(error <= 0.3 for error in result.errors.values())
    for place in result.errors:
        part: Any = result.vector.delta.parts[place]
        assert dense(total, place).shape[0] > part.rank >= 1
        values = torch.linalg.svdvals(dense(total, place))
        assert float(values[part.rank - 1 :].norm() / values.norm()) > 0.3


def test_the_whole_rank_is_exact(total: TaskVector, tiny: Callable[..., Any]) -> None:
    assert total.compress(rank=8).error < 1e-7
    assert total.compress(tol=0.0).error < 1e-7


def test_dense_changes_are_compressed_as_well(vector: Callable[..., TaskVector]) -> None:
    result = vector("lora", 3, use_dora=True).compress(rank=4)
    assert 0 < result.error < 1


@pytest.mark.parametrize(
    ("rank", "tol"), [(None, None), (4, 0.1), (0, None), (9, None), (None, 1.0), (None, -0.1)]
)
def test_what_is_out_of_range_is_refused(
    rank: int | None, tol: float | None, total: TaskVector
) -> None:
    with pytest.raises(ConfigurationError, match="rank"):
        total.compress(rank, tol=tol)
