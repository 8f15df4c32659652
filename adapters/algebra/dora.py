"""DoRA as a change of weights: dense, since it also scales the rows of the base weight."""

import torch

from dpft.adapters.algebra.base import BaseModel
from dpft.adapters.algebra.dense import Dense
from dpft.adapters.algebra.linear import same_shape
from dpft.adapters.algebra.low_rank import LowRank
from dpft.errors import ConfigurationError

__all__ = ["dora_change"]


def dora_change(
    base: BaseModel | None, place: str, change: LowRank, magnitude: torch.Tensor
) -> Dense:
    """Return m (W + s B A) / |W + s B A| - W, the norm taken over each output's weights.

    Args:
        base: The model under the adapter.
        place: Name of the weight W.
        change: s B A.
        magnitude: m, one number for each output.

    Returns:
        The change, as the model stores the weight.

    Raises:
        ConfigurationError: If the model is not at hand.

    Privacy:
        Nothing, no data touched.

    References:
        Liu et al. 2024 (2402.09353), equation 5.
    """
    if base is None:
        raise ConfigurationError(
            f"Expected base to be given: the change of {place} by DoRA depends on the weight under "
            "it. Without it the delta is not known. Give base=MODEL."
        )
    stored = base.tensor(place)
    same_shape([stored, change.dense()])
    weight = (stored.T if change.layout.is_transposed else stored).double()
    directed = weight + change.left.double() @ change.right.double()
    scale = magnitude.double().reshape(-1) / directed.norm(dim=1)
    added = (scale[:, None] * directed - weight).to(change.left.dtype)
    return Dense(added.T if change.layout.is_transposed else added, change.layout)
