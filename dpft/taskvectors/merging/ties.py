"""TIES: trim small entries, elect a sign for each, add up those that agree."""

from collections.abc import Sequence

import torch

from dpft.taskvectors.merging.coordinates import merged_by_place
from dpft.taskvectors.merging.data import Data
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, merge_method
from dpft.taskvectors.vector import TaskVector

__all__ = ["elected_sum", "ties", "trimmed"]


@merge_method("ties", DataAccess.NONE)
def ties(
    vectors: Sequence[TaskVector], options: MergeOptions, data: Data | None = None
) -> TaskVector:
    """Merge by TIES, tensor by tensor.

    Unlike the paper, agreeing entries are added and not averaged unless `normalize` is set, and
    signs are elected after the weights, so that a negative weight counts in the election.

    Args:
        vectors: At least one.
        options: Weights, density, scaling_coef and normalize are read.
        data: None.

    Privacy:
        Post-processing: the runs of all vectors. On noisy vectors, trimming keeps what the noise
        made large.

    References:
        Yadav et al. 2023 (2306.01708), algorithm 1.
    """
    assert data is None
    weights = options.weights_of(len(vectors))

    def rule(place: str, moved: list[torch.Tensor]) -> torch.Tensor:  # noqa: ARG001 - as called
        pairs = zip(weights, moved, strict=True)
        return elected_sum([weight * trimmed(each, options.density) for weight, each in pairs])

    return merged_by_place(vectors, options, "ties", rule)


def trimmed(tensor: torch.Tensor, density: float) -> torch.Tensor:
    """Return a tensor with its smallest entries set to zero.

    Args:
        tensor: Any shape, also empty.
        density: Share of entries kept, in (0, 1]; at least one is.

    Privacy:
        Nothing, no data touched.
    """
    count = max(1, round(density * tensor.numel()))
    if count >= tensor.numel():
        return tensor
    flat = tensor.reshape(-1)
    kept = flat.abs().topk(count).indices
    made = torch.zeros_like(flat)
    made[kept] = flat[kept]
    return made.reshape(tensor.shape)


def elected_sum(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of the entries that have the sign of the sum.

    Args:
        tensors: At least one, of one shape, weights included.

    Privacy:
        Nothing, no data touched.
    """
    stacked = torch.stack(list(tensors))
    elected = stacked.sum(0).sign()
    return torch.where(stacked.sign() == elected, stacked, 0.0).sum(0)
