import numpy as np
import pytest

from dpft.accounting import PoissonGaussian
from dpft.auditing.scores import Final, bounds_of_final
from dpft.errors import BrokenGuaranteeError

CLAIMED = PoissonGaussian(0.8, 0.05, 100)


def delta_of(noise: float) -> Final:
    random = np.random.default_rng(3)
    included = random.random(1000) < 0.5
    taken = included * random.binomial(CLAIMED.steps, CLAIMED.sample_rate, 1000)
    totals = taken + noise * CLAIMED.steps**0.5 * random.standard_normal(1000)
    return Final(totals, included, CLAIMED)


def test_a_delta_alone_refutes_less_noise_than_claimed() -> None:
    found = bounds_of_final(delta_of(0.1), 1e-6)

    assert found.refuted
    assert found.independent > found.claimed


def test_a_delta_alone_shows_no_more_than_is_attainable() -> None:
    found = bounds_of_final(delta_of(0.8), 1e-6)

    assert not found.refuted
    assert 0 < found.independent < found.attainable < 0.8 * found.claimed


def test_a_delta_that_is_no_number_is_refused() -> None:
    with pytest.raises(BrokenGuaranteeError, match="finite"):
        Final(np.array([0.0, np.nan]), np.array([True, False]), CLAIMED)
