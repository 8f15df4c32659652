"""From raw per-record gradients to a clipped sum of bounded sensitivity.

Shapes: B records; a gradient is [B, *shape]. Nothing here adds noise, so nothing here may be
released; `dpft.private_step` is the only caller.
"""

from collections.abc import Mapping, Sequence

import torch

from dpft.engine.grouping import Grouping
from dpft.engine.precision import full_precision
from dpft.engine.record_gradients import RecordGradients, zero_sums
from dpft.privacy import AUTO_S_GAMMA, ClippingStyle

__all__ = ["ClippedSum", "JointGradient", "clip_factors"]

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
        style: How each record, or each user, is clipped.
        clip_norm: Bound on the contribution of one of them over all parameters together.

    Privacy:
        One record (one user) changes the sum by at most `clip_norm` in l2 norm, wherever it falls
        among the physical batches; one whose gradient is not finite contributes exactly zero
        (`tests/dpft/test_clipping.py`, `tests/dpft/test_joint_gradients.py`). The sum itself
        is raw.
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

    @torch.no_grad()
    def add_users(self, gradients: RecordGradients, sizes: Sequence[int]) -> None:
        """Clip every user's joint gradient, the mean over the user's records, and add it.

        Args:
            gradients: Of the records of one physical batch, user after user.
            sizes: Number of records of each user: all that the user has.
        """
        grouping = Grouping.of(sizes, next(iter(self.raw_sums.values())).device)
        with full_precision(self.raw_sums.values()):
            self._add_means(gradients.joined(grouping), grouping.sizes_U)

    @torch.no_grad()
    def add_user(self, joint: "JointGradient") -> None:
        """Clip the joint gradient of one user of many records and add it."""
        with full_precision(self.raw_sums.values()):
            sizes_U = torch.tensor([joint.size], device=next(iter(self.raw_sums.values())).device)
            self._add_means(joint.raw_gradients(), sizes_U)

    def _add_means(self, sums: RecordGradients, sizes_U: torch.Tensor) -> None:
        """Clip sums over users' records divided by the number of their records, and add them."""
        norms_U = sums.raw_norms()
        if norms_U is not None:
            factors_U = clip_factors(norms_U / sizes_U, self._style, self._clip_norm)
            sums.add_weighted(factors_U / sizes_U, self.raw_sums)


class JointGradient:
    """The gradient of one user whose records fill several physical batches, added up exactly.

    Args:
        parameters: Trainable parameters by name.

    Privacy:
        Raw, and not clipped yet: `ClippedSum.add_user` does that
        (`tests/dpft/test_joint_gradients.py`).
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Start at zero, in float32 or better."""
        self._raw_sums = zero_sums(parameters)
        self.size = 0

    @torch.no_grad()
    def add(self, gradients: RecordGradients, records: int) -> None:
        """Add the gradients of some of the user's records."""
        first = next(iter(self._raw_sums.values()))
        with full_precision(self._raw_sums.values()):
            gradients.add_weighted(first.new_ones(records), self._raw_sums)
        self.size += records

    def raw_gradients(self) -> RecordGradients:
        """Return the sum over the records as the gradients of one user, {name: [1, *shape]}."""
        return RecordGradients.of({name: s.unsqueeze(0) for name, s in self._raw_sums.items()})
