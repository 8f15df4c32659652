"""From raw per-record gradients to a clipped sum of bounded sensitivity.

Shapes: B records; a gradient is [B, *shape]. Nothing here adds noise, so nothing here may be
released; `dpft.private_step` is the only caller.
"""

from collections.abc import Mapping

import torch

from dpft.engine.precision import full_precision
from dpft.engine.record_gradients import RecordGradients, zero_sums
from dpft.privacy import AUTO_S_GAMMA, ClippingStyle

__all__ = ["ClippedSum", "clip_factors"]

# Contributions are clipped to a little less than the bound, so that rounding in float32 stays
# inside it: float32 sums of squares and the weighted sum are off by far less than 1e-3.
_ROUNDING_MARGIN = 1e-3


def clip_factors(
    raw_norms_B: torch.Tensor,
    style: ClippingStyle,
    clip_norm: float,
) -> torch.Tensor:
    """Return the factor [B] that bounds each record's contribution by `clip_norm`.

    flat: min(1, C / n); auto_s: C / (n + 0.01), with C = clip_norm (1 - 1e-3).

    Args:
        raw_norms_B: l2 norms [B] of whole per-record gradients, >= 0; not finite allowed.
        style: How the bound is enforced.
        clip_norm: The bound, > 0.

    Returns:
        Factors [B], exactly 0 where the norm is not finite.

    Privacy:
        factor x norm <= clip_norm for every record (`tests/dpft/test_clipping.py`).

    References:
        Abadi et al. 2016 (1607.00133), algorithm 1; Bu et al. 2022 (2206.07136), equation 4.
    """
    bound = clip_norm * (1 - _ROUNDING_MARGIN)
    if style is ClippingStyle.FLAT:
        factors = (bound / raw_norms_B).clamp(max=1.0)
        factors = torch.where(raw_norms_B == 0, torch.ones_like(factors), factors)
    else:
        factors = bound / (raw_norms_B + AUTO_S_GAMMA)
    return torch.where(torch.isfinite(raw_norms_B), factors, torch.zeros_like(factors))


class ClippedSum:
    """Sum of clipped gradients over the physical batches of one logical batch.

    Args:
        parameters: Trainable parameters by name.
        style: How each record is clipped.
        clip_norm: Bound on one record's contribution over all parameters together.

    Privacy:
        One record changes the sum by at most `clip_norm` in l2 norm, wherever it falls among the
        physical batches; a record whose gradient is not finite contributes exactly zero
        (`tests/dpft/test_clipping.py`). The sum itself is raw.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], style: ClippingStyle, clip_norm: float
    ) -> None:
        """Start at zero, in float32 or better."""
        self._style = style
        self._clip_norm = clip_norm
        self.raw_sums = zero_sums(parameters)

    @torch.no_grad()
    def add(self, gradients: RecordGradients) -> None:
        """Clip every record of one physical batch and add it."""
        with full_precision(self.raw_sums.values()):
            norms_B = gradients.raw_norms()
            if norms_B is not None:
                factors_B = clip_factors(norms_B, self._style, self._clip_norm)
                gradients.add_weighted(factors_B, self.raw_sums)
