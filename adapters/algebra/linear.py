"""Linear combinations of tensors, summed in double precision and rounded once."""

from collections.abc import Sequence

import torch

from dpft.errors import ConfigurationError

__all__ = ["same_shape", "weighted_sum"]


def weighted_sum(terms: Sequence[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """Return the sum of w_i x_i.

    Args:
        terms: Weights and tensors of one shape, at least one.

    Returns:
        A tensor of the type of the first. A single tensor of weight 1 comes back as it is.

    Raises:
        ConfigurationError: If shapes differ.

    Privacy:
        Nothing, no data touched.
    """
    same_shape([tensor for _, tensor in terms])
    (weight, first), *others = terms
    if weight == 1 and not others:
        return first
    total = weight * first.double()
    for each, tensor in others:
        total += each * tensor.double()
    return total.to(first.dtype)


def same_shape(tensors: Sequence[torch.Tensor]) -> None:
    """Refuse tensors of different shapes.

    Args:
        tensors: Any number.

    Raises:
        ConfigurationError: If shapes differ.

    Privacy:
        Nothing, no data touched.
    """
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if len(shapes) > 1:
        raise ConfigurationError(
            f"Expected shapes={shapes} to be one. Deltas add up on one base model. Take adapters "
            "that were trained on the same model with the same settings."
        )
