"""DARE: drop entries at random, from a public seed, and rescale those that are left."""

import hashlib
from collections.abc import Sequence

import torch

from dpft.taskvectors.merging.coordinates import merged_by_place
from dpft.taskvectors.merging.data import Data
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, merge_method
from dpft.taskvectors.vector import TaskVector

__all__ = ["dare", "dropped"]


@merge_method("dare", DataAccess.NONE)
def dare(
    vectors: Sequence[TaskVector], options: MergeOptions, data: Data | None = None
) -> TaskVector:
    """Merge by DARE: each entry stays with probability `density`, divided by it.

    Args:
        vectors: At least one.
        options: Weights, density, scaling_coef and seed are read.
        data: None.

    Privacy:
        Post-processing: which entries stay depends on the seed, the place and the vector's number
        alone. The runs of all vectors.

    References:
        Yu et al. 2024 (2311.03099), section 3.1.
    """
    assert data is None
    weights = options.weights_of(len(vectors))

    def rule(place: str, moved: list[torch.Tensor]) -> torch.Tensor:
        kept = [
            weight * dropped(each, options.density, f"{options.seed} {place} {number}")
            for number, (weight, each) in enumerate(zip(weights, moved, strict=True))
        ]
        return torch.stack(kept).sum(0)

    return merged_by_place(vectors, options, "dare", rule)


def dropped(tensor: torch.Tensor, density: float, seed: str) -> torch.Tensor:
    """Return a tensor with entries dropped at random, and the others divided by density.

    Args:
        tensor: Any shape.
        density: Probability to stay, in (0, 1]; 1 changes nothing.
        seed: Public text that decides what stays.

    Privacy:
        Nothing, no data touched.
    """
    digest = hashlib.sha256(seed.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    stays = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) < density
    return torch.where(stays.to(tensor.device), tensor / density, 0.0)
