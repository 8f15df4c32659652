"""No record contributes more than the clip norm; a broken one contributes nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.clipping import ClippedSum, clip_factors
from dpft.engine.record_gradients import RecordGradients
from dpft.privacy import ClippingStyle

STYLES = list(ClippingStyle)
NORMS = st.floats(min_value=0, max_value=1e30, allow_nan=False)


def parameters() -> dict[str, torch.nn.Parameter]:
    return {
        "matrix": torch.nn.Parameter(torch.zeros(3, 2)),
        "vector": torch.nn.Parameter(torch.zeros(4)),
        "scalar": torch.nn.Parameter(torch.zeros(())),
    }


def gradients(scale: float, batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: scale * torch.randn(batch, *p.shape, generator=generator)
        for name, p in parameters().items()
    }


def norm_of(total: ClippedSum) -> float:
    return float(torch.cat([part.double().flatten() for part in total.raw_sums.values()]).norm())


@given(norm=NORMS, clip_norm=st.floats(1e-3, 1e3), style=st.sampled_from(STYLES))
def test_factor_times_norm_never_exceeds_the_clip_norm(
    norm: float, clip_norm: float, style: ClippingStyle
) -> None:
    factor = float(clip_factors(torch.tensor([norm], dtype=torch.float64), style, clip_norm))
    assert factor * norm <= clip_norm


@settings(deadline=None)
@given(
    scale=st.floats(1e-30, 1e18),
    clip_norm=st.floats(1e-3, 1e3),
    style=st.sampled_from(STYLES),
)
def test_one_record_never_changes_the_sum_by_more_than_the_clip_norm(
    scale: float, clip_norm: float, style: ClippingStyle
) -> None:
    total = ClippedSum(parameters(), style, clip_norm)
    total.add(RecordGradients.of(gradients(scale, batch=1)))
    assert norm_of(total) <= clip_norm


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, 1e30])
def test_a_record_that_is_not_finite_contributes_exactly_zero(
    broken: float, style: ClippingStyle
) -> None:
    raw = gradients(1.0)
    raw["vector"][1, 2] = broken
    total, without = (ClippedSum(parameters(), style, 1.0) for _ in range(2))
    total.add(RecordGradients.of(raw))
    without.add(RecordGradients.of({name: grads[[0, 2]] for name, grads in raw.items()}))
    for name, part in total.raw_sums.items():
        assert torch.isfinite(part).all()
        assert torch.allclose(part, without.raw_sums[name], rtol=1e-6)


def test_flat_clipping_leaves_small_gradients_alone() -> None:
    raw = gradients(1e-3)
    total = ClippedSum(parameters(), ClippingStyle.FLAT, 1.0)
    total.add(RecordGradients.of(raw))
    assert torch.allclose(total.raw_sums["matrix"], raw["matrix"].sum(0), rtol=1e-5)


def test_flat_clipping_scales_large_gradients_to_the_bound() -> None:
    total = ClippedSum(parameters(), ClippingStyle.FLAT, 2.0)
    total.add(RecordGradients.of(gradients(1e3, batch=1)))
    assert norm_of(total) == pytest.approx(2.0, rel=2e-3)


def test_auto_s_normalises_whatever_the_size() -> None:
    factor = float(clip_factors(torch.tensor([4.99]), ClippingStyle.AUTO_S, 1.0))
    assert factor == pytest.approx(0.999 / 5.0, rel=1e-6)


def test_the_norm_is_taken_over_all_parameters_together() -> None:
    raw = gradients(1.0)
    stacked = torch.cat([grads.reshape(3, -1) for grads in raw.values()], dim=1)
    assert torch.allclose(RecordGradients.of(raw).raw_norms(), stacked.norm(dim=1), rtol=1e-6)


def test_low_precision_is_summed_in_float32() -> None:
    raw = {"scalar": torch.full((4096,), 1e-4, dtype=torch.bfloat16)}
    scalar = {"scalar": torch.nn.Parameter(torch.zeros((), dtype=torch.bfloat16))}
    total = ClippedSum(scalar, ClippingStyle.FLAT, 1.0)
    total.add(RecordGradients.of(raw))
    expected = 4096 * float(raw["scalar"][0])
    assert float(total.raw_sums["scalar"]) == pytest.approx(expected, rel=1e-4)
