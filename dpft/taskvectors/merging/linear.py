"""The weighted sum, exactly and symbolically: task arithmetic."""

from collections.abc import Sequence

from dpft.taskvectors.merging.data import Data
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, merge_method
from dpft.taskvectors.vector import TaskVector

__all__ = ["linear"]


@merge_method("linear", DataAccess.NONE)
def linear(
    vectors: Sequence[TaskVector], options: MergeOptions, data: Data | None = None
) -> TaskVector:
    """Return scaling_coef times the sum of w_i vectors.

    Args:
        vectors: At least one.
        options: Weights and scaling_coef are read.
        data: None.

    Privacy:
        Post-processing: the runs of all terms that are left.

    References:
        Ilharco et al. 2023 (2212.04089), section 2.
    """
    assert data is None
    weights = options.weights_of(len(vectors))
    terms = [weight * vector for weight, vector in zip(weights, vectors, strict=True)]
    return sum(terms, TaskVector()) * options.scaling_coef
