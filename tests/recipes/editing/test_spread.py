import pytest

from dpft.recipes.editing.spread import half_width, mean_and_interval


def test_the_interval_is_students() -> None:
    # t(0.975, 2) = 4.30265; standard deviation 0.02; root of 3
    assert half_width([0.70, 0.72, 0.74]) == pytest.approx(4.30265 * 0.02 / 3**0.5, rel=1e-4)


def test_one_value_has_no_interval() -> None:
    assert half_width([0.7]) is None
    assert mean_and_interval([0.7]) == "0.700"


def test_the_mean_stands_with_its_half_width() -> None:
    assert mean_and_interval([0.70, 0.72, 0.74]) == "0.720 ± 0.050"
