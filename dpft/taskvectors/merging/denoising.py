"""The weighted sum of vectors whose noise was shrunk, by its public level alone."""

import math
from collections.abc import Sequence

import torch

from dpft.adapters.algebra import LowRank
from dpft.errors import ConfigurationError
from dpft.taskvectors.merging.coordinates import merged_by_place
from dpft.taskvectors.merging.data import Data
from dpft.taskvectors.merging.noise import noise_levels
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, merge_method
from dpft.taskvectors.vector import TaskVector

__all__ = ["denoised", "refuse_undenoisable", "shrunk"]


@merge_method("denoised", DataAccess.NONE)
def denoised(
    vectors: Sequence[TaskVector], options: MergeOptions, data: Data | None = None
) -> TaskVector:
    """Shrink the singular values of every matrix against noise of a known level, then add up.

    Args:
        vectors: At least one, in whose coordinates the noise is independent and equal: full
            weights, biases, FFA-LoRA (there, those of the scaled factor).
        options: Weights, scaling_coef and noise_std, which must be stated, are read.
        data: None.

    Returns:
        A new vector; without noise, the weighted sum.

    Raises:
        ConfigurationError: If levels are not stated, or both factors of a LoRA were trained: the
            noise in their product is not of that kind.

    Privacy:
        Post-processing: levels are public numbers. The runs of all vectors.
    """
    assert data is None
    refuse_undenoisable(vectors, options)
    levels = noise_levels(vectors, options)
    weights = options.weights_of(len(vectors))

    def rule(place: str, moved: list[torch.Tensor]) -> torch.Tensor:  # noqa: ARG001 - as called
        each = zip(weights, levels, moved, strict=True)
        return torch.stack([w * shrunk(tensor, level) for w, level, tensor in each]).sum(0)

    return merged_by_place(vectors, options, "denoised", rule)


def refuse_undenoisable(vectors: Sequence[TaskVector], options: MergeOptions) -> None:
    """Refuse noise of which the level or the kind is not known; no number of a tensor is read.

    Args:
        vectors: At least one.
        options: noise_std is read.

    Raises:
        ConfigurationError: As for `denoised`.

    Privacy:
        Nothing, no data touched.
    """
    if options.noise_std is None:
        raise ConfigurationError(
            "Expected noise_std to be stated for method=denoised. Its level must be that of the "
            "weights, learning rate included. State one for each vector."
        )
    _refuse_products(vectors)


def shrunk(tensor: torch.Tensor, noise_std: float) -> torch.Tensor:
    """Return the estimate of what lies under independent Gaussian noise.

    Args:
        tensor: In double precision.
        noise_std: Standard deviation of the noise in each entry, >= 0.

    Returns:
        Of a matrix, singular values shrunk optimally for the Frobenius norm, and zero below the
        edge of the noise, noise_std (sqrt(D) + sqrt(K)); of others, the James-Stein estimate.

    Privacy:
        Nothing, no data touched.

    References:
        Gavish and Donoho 2017 (1405.7511), equation 7; James and Stein 1961.
    """
    if noise_std == 0 or tensor.numel() == 0:
        return tensor
    if tensor.dim() != 2:
        loss = max(0, tensor.numel() - 2) * noise_std**2 / float(tensor.square().sum())
        return tensor * max(0.0, 1.0 - loss)
    left, values, right = torch.linalg.svd(tensor, full_matrices=False)
    long, short = max(tensor.shape), min(tensor.shape)
    ratio, scaled = short / long, values / (noise_std * math.sqrt(long))
    inside = ((scaled**2 - ratio - 1) ** 2 - 4 * ratio).clamp(min=0).sqrt()
    kept = torch.where(scaled > 1 + math.sqrt(ratio), inside / scaled.clamp(min=1e-300), 0.0)
    estimate: torch.Tensor = (left * (noise_std * math.sqrt(long) * kept)) @ right
    return estimate


def _refuse_products(vectors: Sequence[TaskVector]) -> None:
    deltas = [vector.delta for vector in vectors]
    trained = [
        place
        for delta in deltas
        if delta.frozen_seed is None
        for place in delta.parts
        if isinstance(delta.parts[place], LowRank)
    ]
    if trained:
        raise ConfigurationError(
            f"Expected the second factor of {trained[0]} never to have been trained. The noise in "
            "a product of two noisy factors has no known spectrum. Use adapter=ffa_lora, or "
            "method=noise_weighted."
        )
