"""Merging in aligned coordinates: one SVD of all changes side by side, then TIES within it."""

from collections.abc import Sequence

import torch

from dpft.taskvectors.merging.coordinates import merged_by_place
from dpft.taskvectors.merging.data import Data
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, merge_method
from dpft.taskvectors.merging.ties import elected_sum, trimmed
from dpft.taskvectors.vector import TaskVector

__all__ = ["svd_aligned"]


@merge_method("svd_aligned", DataAccess.NONE)
def svd_aligned(
    vectors: Sequence[TaskVector], options: MergeOptions, data: Data | None = None
) -> TaskVector:
    """Merge matrices by TIES on their coordinates in a common basis; other tensors by TIES.

    [D_1 | D_2 | ...] = U S [V_1 | V_2 | ...]: the basis U of the outputs is shared, and S V_i is
    what each vector has in it.

    Args:
        vectors: At least one.
        options: Weights, density and scaling_coef are read.
        data: None.

    Privacy:
        Post-processing: the runs of all vectors.

    References:
        Stoica et al. 2025 (2410.19735), section 4 (KnOTS).
    """
    assert data is None
    weights = options.weights_of(len(vectors))

    def rule(place: str, moved: list[torch.Tensor]) -> torch.Tensor:  # noqa: ARG001 - as called
        basis, inside = _aligned(moved)
        pairs = zip(weights, inside, strict=True)
        merged = elected_sum([weight * trimmed(each, options.density) for weight, each in pairs])
        return merged if basis is None else basis @ merged

    return merged_by_place(vectors, options, "svd_aligned", rule)


def _aligned(moved: list[torch.Tensor]) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    if moved[0].dim() != 2:
        return None, moved
    basis, values, right = torch.linalg.svd(torch.cat(moved, 1), full_matrices=False)
    inside = (values[:, None] * right).split([each.shape[1] for each in moved], 1)
    return basis, list(inside)
