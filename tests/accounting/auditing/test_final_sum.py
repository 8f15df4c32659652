import pytest

from dpft.accounting import Gaussian, PoissonGaussian, epsilon
from dpft.accounting.auditing import final_epsilon
from dpft.errors import ConfigurationError

DELTA = 1e-5


def test_one_step_is_seen_as_well_in_its_sum() -> None:
    once = PoissonGaussian(1.0, 0.1, 1)

    assert final_epsilon(once, DELTA) == pytest.approx(epsilon(once, DELTA), abs=1e-4)


def test_without_sampling_the_sum_says_all() -> None:
    assert final_epsilon(PoissonGaussian(1.0, 1.0, 4), DELTA) == pytest.approx(
        epsilon(Gaussian(0.5), DELTA), abs=1e-4
    )


def test_a_sum_of_many_steps_tells_less_than_the_steps() -> None:
    plan = PoissonGaussian(0.6, 0.02, 300)

    assert 1.0 < final_epsilon(plan, DELTA) < 0.6 * epsilon(plan, DELTA)


def test_a_delta_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="delta"):
        final_epsilon(PoissonGaussian(1.0, 0.1, 1), 0.0)
