"""The noise on a clipped sum, as the plan says: Gaussian in float64, or integers on a grid.

`dpft.private_step` is the only caller. What comes out of here may be released.
"""

from fractions import Fraction

import torch

from dpft.discrete_gaussian import discrete_gaussian
from dpft.errors import UnsupportedError
from dpft.privacy import NoiseKind, PrivacyPlan
from dpft.randomness import Stream

__all__ = ["noised", "refuse_too_many_entries"]

# In steps of the grid. Below it a float64 quotient is off by at most 1/8, which the sensitivity
# counts; a sum of 2**26 clip norms at a noise multiplier of 1 reaches it.
_LARGEST_QUOTIENT = 2.0**50


def noised(raw_sum: torch.Tensor, plan: PrivacyPlan, stream: Stream) -> torch.Tensor:
    """Return a clipped sum under the planned noise.

    Args:
        raw_sum: One parameter's part of the clipped sum, in float32 or better, any shape.
        plan: The plan.
        stream: The step's secret noise; each parameter takes what follows.

    Returns:
        The noisy sum in float64, on the CPU: whatever dtype the parameter has, noise is added
        before anything is rounded to it.

    Privacy:
        Gaussian of std `plan.noise_std` on every entry; or the sum rounded to multiples of
        `plan.granularity` plus integer noise of the same std, as `DiscreteGaussian` books it
        (`test_noise_is_added_in_float64_whatever_the_parameter_is`,
        `test_integer_noise_lies_on_the_public_grid`).
    """
    raw = raw_sum.double().cpu()
    if plan.privacy.noise is NoiseKind.GAUSSIAN:
        normals = torch.from_numpy(stream.normals(raw.numel())).view(raw.shape)
        return raw + plan.noise_std * normals
    std = plan.discrete.grid_std
    drawn = torch.from_numpy(discrete_gaussian(Fraction(std**2), raw.numel(), stream))
    # both are integers below 2**51, so that their sum is exact in float64
    noisy: torch.Tensor = _rounded(raw / plan.granularity) + drawn.double().view(raw.shape)
    return noisy * plan.granularity


def refuse_too_many_entries(entries: int, plan: PrivacyPlan) -> None:
    """Refuse more trained entries than the rounded sensitivity counts with.

    Args:
        entries: Number of trained entries.
        plan: The plan.

    Raises:
        UnsupportedError: If noise is on a grid and there are more of them.

    Privacy:
        Nothing, no data touched (`test_more_entries_than_are_booked_are_refused`).
    """
    if plan.privacy.noise is NoiseKind.GAUSSIAN or entries <= plan.discrete.dimension:
        return
    raise UnsupportedError(
        f"Expected trained entries={entries} <= {plan.discrete.dimension} with "
        f"noise={plan.privacy.noise.value}. Rounding each of them may move the sum, and no more "
        "are booked. Train an adapter, or set privacy.noise to gaussian."
    )


def _rounded(quotients: torch.Tensor) -> torch.Tensor:
    """Return the nearest integers; a bound that moves no two sums apart keeps them exact."""
    return quotients.clamp(-_LARGEST_QUOTIENT, _LARGEST_QUOTIENT).round()
