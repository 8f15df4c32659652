"""Calibration meets the target, and no more than that."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import (
    Adjacency,
    ConfigurationError,
    PoissonGaussian,
    PrivacyTarget,
    calibrate,
    calibrate_batch_size,
    calibrate_noise_multiplier,
    calibrate_steps,
    epsilon,
    steps_from_epochs,
)

SST2, QNLI, QQP, MNLI, E2E, DART = 67349, 104743, 363846, 392702, 42061, 62659
TABLE = [  # records, batch, epochs, epsilon, delta, published noise multiplier
    pytest.param(SST2, 2000, 20, 6.7, 1e-5, 0.8672, id="SST-2 B2000 E20"),
    pytest.param(QNLI, 2000, 20, 6.7, 1e-5, 0.7800, id="QNLI"),
    pytest.param(QQP, 2000, 20, 6.7, 1e-6, 0.6454, id="QQP", marks=pytest.mark.slow),
    pytest.param(MNLI, 2000, 20, 6.7, 1e-6, 0.6379, id="MNLI 1e-6", marks=pytest.mark.slow),
    pytest.param(MNLI, 2000, 20, 6.7, 1e-5, 0.6096, id="MNLI 1e-5", marks=pytest.mark.slow),
    pytest.param(SST2, 2000, 50, 8.0, 1e-5, 1.0054, id="SST-2 E50", marks=pytest.mark.slow),
    pytest.param(SST2, 1024, 10, 3.0, 0.5 / SST2, 0.9059, id="SST-2 B1024 E10"),
    pytest.param(E2E, 1024, 10, 3.0, 8e-6, 1.0323, id="E2E 3"),
    pytest.param(E2E, 1024, 10, 8.0, 8e-6, 0.6851, id="E2E 8", marks=pytest.mark.slow),
    pytest.param(DART, 1024, 10, 6.8, 1e-5, 0.6708, id="DART"),
    pytest.param(1000, 100, 30, 1.0, 1e-4, 5.6335, id="N=1000"),
]


@pytest.mark.parametrize(("records", "batch", "epochs", "target", "delta", "published"), TABLE)
def test_calibrated_noise_agrees_with_the_published_table(
    records: int, batch: int, epochs: int, target: float, delta: float, published: float
) -> None:
    noise = calibrate_noise_multiplier(
        epsilon=target,
        delta=delta,
        sample_rate=batch / records,
        steps=steps_from_epochs(epochs, records, batch),
    )
    assert noise == pytest.approx(published, rel=2e-3)


@settings(max_examples=4, deadline=None)
@given(st.floats(0.5, 10), st.floats(1e-3, 0.2), st.integers(1, 500), st.sampled_from([1e-6, 1e-4]))
def test_calibrated_noise_meets_the_target(
    target: float, rate: float, steps: int, delta: float
) -> None:
    mechanism = calibrate(PrivacyTarget(target, delta), sample_rate=rate, steps=steps)
    assert epsilon(mechanism, delta) <= target


@pytest.mark.parametrize(
    ("target", "rate", "steps", "adjacency"),
    [
        *((1.0, 0.1, 300, adjacency) for adjacency in Adjacency),
        (8.0, 0.015, 198, Adjacency.ADD_OR_REMOVE),
    ],
)
def test_less_noise_than_calibrated_misses_the_target(
    target: float, rate: float, steps: int, adjacency: Adjacency
) -> None:
    goal = PrivacyTarget(target, 1e-5, adjacency=adjacency)
    noise = calibrate(goal, sample_rate=rate, steps=steps).noise_multiplier
    assert noise == round(noise, 4)
    assert goal.spent(PoissonGaussian(noise, rate, steps, adjacency)) <= target
    assert goal.spent(PoissonGaussian(noise - 2e-4, rate, steps, adjacency)) > target


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_every_accountant_calibrates_for_itself(accountant: str) -> None:
    goal = PrivacyTarget(3.0, 1e-5, accountant=accountant)
    mechanism = calibrate(goal, sample_rate=0.02, steps=300)
    less = PoissonGaussian(mechanism.noise_multiplier - 2e-4, 0.02, 300)
    assert goal.spent(mechanism) <= 3.0 < goal.spent(less)


def test_replace_one_asks_for_more_noise() -> None:
    noises = [
        calibrate(
            PrivacyTarget(1.0, 1e-5, adjacency=adjacency), sample_rate=0.1, steps=300
        ).noise_multiplier
        for adjacency in (Adjacency.ADD_OR_REMOVE, Adjacency.REPLACE_ONE)
    ]
    assert noises[0] * 1.1 < noises[1]


def test_calibrated_steps_meet_the_target_and_more_do_not() -> None:
    goal = PrivacyTarget(2.0, 1e-5)
    steps = calibrate_steps(goal, noise_multiplier=1.0, sample_rate=0.02)
    assert goal.spent(PoissonGaussian(1.0, 0.02, steps)) <= 2.0
    assert goal.spent(PoissonGaussian(1.0, 0.02, steps + 2)) > 2.0


def test_calibrated_batch_size_meets_the_target_and_more_does_not() -> None:
    goal = PrivacyTarget(2.0, 1e-5, num_records=10_000)
    batch = calibrate_batch_size(goal, noise_multiplier=1.0, num_records=10_000, steps=300)
    assert goal.spent(PoissonGaussian(1.0, batch / 10_000, 300)) <= 2.0
    assert goal.spent(PoissonGaussian(1.0, (batch + 2) / 10_000, 300)) > 2.0


def test_the_four_questions_invert_each_other() -> None:
    records, batch, steps = 10_000, 200, 300
    noise = 1.0
    spent = epsilon(PoissonGaussian(noise, batch / records, steps), 1e-5)
    goal = PrivacyTarget(spent * (1 + 1e-9), 1e-5)
    again = calibrate(goal, sample_rate=batch / records, steps=steps).noise_multiplier
    assert again == pytest.approx(noise, abs=1e-4)
    assert abs(calibrate_steps(goal, noise_multiplier=noise, sample_rate=0.02) - steps) <= 1
    found = calibrate_batch_size(goal, noise_multiplier=noise, num_records=records, steps=steps)
    assert abs(found - batch) <= 1


def test_a_target_that_everything_meets_gives_the_full_batch() -> None:
    goal = PrivacyTarget(10.0, 1e-5)
    assert calibrate_batch_size(goal, noise_multiplier=50.0, num_records=100, steps=1) == 100


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf, True, "3", None])
def test_a_target_that_is_no_positive_number_is_refused(target: object) -> None:
    with pytest.raises(ConfigurationError, match="epsilon="):
        PrivacyTarget(target, 1e-5)  # type: ignore[arg-type]


def test_all_wrong_fields_of_a_target_are_named_together() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        PrivacyTarget(-1.0, 0.5, "pdl", "none", 100)  # type: ignore[arg-type]
    assert len(refusal.value.messages) == 4


@pytest.mark.parametrize(("rate", "steps"), [(1.2, 10), (0.0, 10), (0.1, 0), (0.1, 1.5)])
def test_a_run_that_is_out_of_range_is_refused(rate: float, steps: int) -> None:
    with pytest.raises(ConfigurationError):
        calibrate_noise_multiplier(epsilon=3.0, delta=1e-5, sample_rate=rate, steps=steps)


def test_steps_beyond_reach_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="reachable"):
        calibrate_steps(PrivacyTarget(1.0, 1e-5), noise_multiplier=0.8, sample_rate=0.1)
