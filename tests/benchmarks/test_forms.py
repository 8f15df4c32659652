"""The two forms, and the threshold between them."""

import pytest
import torch

from benchmarks.forms import fitted, full, ghost


def test_both_forms_give_the_same_weighted_sum() -> None:
    torch.manual_seed(0)
    x_BND, g_BNP, w_B = torch.randn(3, 5, 4), torch.randn(3, 5, 6), torch.rand(3)
    expected = sum(w * g.T @ x for x, g, w in zip(x_BND, g_BNP, w_B, strict=True))
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(full(x_BND, g_BNP, w_B), expected)
    torch.testing.assert_close(ghost(x_BND, g_BNP, w_B), expected)


def test_threshold_lies_where_ghost_stops_being_faster() -> None:
    threshold = fitted(costs=[8.0, 1.0, 2.0, 4.0], ratios=[2.0, 0.5, 0.9, 1.5])
    assert 2.0 < threshold.value < 4.0
    assert threshold.mean_loss == threshold.worst_loss == 1.0


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.5, 2.0, 100.0), (2.0, 0.0, 1.0)])
def test_one_form_may_win_everywhere(ratio: float, low: float, high: float) -> None:
    threshold = fitted(costs=[1.0, 2.0], ratios=[ratio, ratio])
    assert low < threshold.value < high
    assert threshold.worst_loss == 1.0


def test_loss_of_a_site_on_the_wrong_side_is_reported() -> None:
    threshold = fitted(costs=[1.0, 2.0, 3.0], ratios=[0.5, 1.25, 0.5])
    assert threshold.worst_loss == pytest.approx(1.25)
