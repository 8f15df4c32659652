import itertools

import pytest

from dpft.accounting import PoissonGaussian, epsilon
from dpft.errors import ConfigurationError
from dpft.recipes.planning.candidates import (
    FEWEST_STEPS,
    LEAST_GAIN,
    MOST_EPOCHS,
    Candidate,
    candidates,
    chosen,
    gain,
)
from dpft.recipes.planning.demand import Demand

SMALL = Demand(num_records=4000, epsilon=2.0, delta=1e-5)


@pytest.fixture(scope="module")
def found() -> list[Candidate]:
    return candidates(SMALL)


def test_every_candidate_meets_the_guarantee(found: list[Candidate]) -> None:
    for each in found:
        run = PoissonGaussian(each.noise_multiplier, each.expected_batch_size / 4000, each.steps)
        assert 1.9 < epsilon(run, 1e-5) <= 2.0


def test_the_larger_batch_comes_first_and_has_twice_the_work(found: list[Candidate]) -> None:
    assert found[0].expected_batch_size == 512
    assert found[0].epochs <= MOST_EPOCHS
    for above, below in itertools.pairwise(found):
        assert above.expected_batch_size == 2 * below.expected_batch_size
        assert above.steps >= FEWEST_STEPS


def test_a_larger_batch_has_less_noise_for_each_record(found: list[Candidate]) -> None:
    ratios = [each.noise_to_batch for each in found]
    assert ratios == sorted(ratios)
    assert gain(found, 0) == pytest.approx(1 - ratios[0] / ratios[1])


def test_work_is_doubled_only_while_it_pays(found: list[Candidate]) -> None:
    taken = found.index(chosen(found))
    assert taken > 0, "at this epsilon the last doubling does not pay"
    assert gain(found, taken) >= LEAST_GAIN
    assert all(gain(found, position) < LEAST_GAIN for position in range(taken))


def test_nothing_that_pays_leaves_the_least_work() -> None:
    def of(noise: float) -> Candidate:
        return Candidate(
            expected_batch_size=1, steps=1, noise_multiplier=noise, epochs=1.0, hours=None
        )

    assert chosen([of(1.0), of(1.01), of(1.02)]).noise_multiplier == 1.02


def test_a_run_fits_the_time() -> None:
    demand = Demand(num_records=4000, epsilon=2.0, hours=0.5, records_per_second=30.0)
    found = candidates(demand)
    assert found[0].hours is not None
    assert found[0].hours <= 0.5
    assert found[0].hours == pytest.approx(
        found[0].expected_batch_size * found[0].steps / 30 / 3600
    )


def test_too_little_time_is_refused_with_the_time_that_is_needed() -> None:
    demand = Demand(num_records=4000, epsilon=2.0, hours=0.01, records_per_second=30.0)
    with pytest.raises(ConfigurationError, match=r"Expected hours=0\.01 >= 0\.059 "):
        candidates(demand)


def test_too_few_records_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Expected num_records=3 >= 4\."):
        candidates(Demand(num_records=3, epsilon=2.0))
