"""The weighted sum in which noisier vectors count less: weights by inverse variance."""

import dataclasses
from collections.abc import Sequence

from dpft.errors import ConfigurationError
from dpft.taskvectors.merging.data import Data
from dpft.taskvectors.merging.linear import linear
from dpft.taskvectors.merging.noise import noise_levels
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import DataAccess, merge_method
from dpft.taskvectors.vector import TaskVector

__all__ = ["noise_weighted", "precision_weights"]


@merge_method("noise_weighted", DataAccess.NONE)
def noise_weighted(
    vectors: Sequence[TaskVector], options: MergeOptions, data: Data | None = None
) -> TaskVector:
    """Return the sum of w_i u_i vectors with u_i = n s_i^-2 / sum of s_j^-2.

    The factors u_i have mean 1, so that equal levels s_i give the plain sum.

    Args:
        vectors: At least one.
        options: Weights, scaling_coef and noise_std (each above 0) are read.
        data: None.

    Raises:
        ConfigurationError: If a level is unknown or zero.

    Privacy:
        Post-processing: levels are public numbers of the mechanisms. The runs of all vectors.
    """
    products = precision_weights(vectors, options)
    return linear(vectors, dataclasses.replace(options, weights=products, normalize=False), data)


def precision_weights(vectors: Sequence[TaskVector], options: MergeOptions) -> tuple[float, ...]:
    """Return w_i u_i for each vector, from public numbers alone.

    Args:
        vectors: At least one.
        options: Weights and noise_std (each above 0) are read.

    Raises:
        ConfigurationError: If a level is unknown or zero.

    Privacy:
        Nothing, no data touched: public numbers of the certificates.
    """
    levels = noise_levels(vectors, options)
    if not all(level > 0 for level in levels):
        raise ConfigurationError(
            f"Expected noise_std={levels} > 0. Beside a vector without noise no other would count. "
            "Use method=linear."
        )
    least = min(levels)  # only ratios count, and squares of small numbers leave the range of floats
    precisions = [(least / level) ** 2 for level in levels]
    factors = [len(vectors) * each / sum(precisions) for each in precisions]
    weights = options.weights_of(len(vectors))
    return tuple(w * u for w, u in zip(weights, factors, strict=True))
