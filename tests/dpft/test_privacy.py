"""The plan: public numbers, fixed before training, by rules that fail closed."""

import math

import pytest

import dpft
from dpft.accounting import Accountant, Adjacency, DiscreteLaplace, epsilon
from dpft.errors import ConfigurationError
from dpft.privacy import ClippingStyle, EvaluationStatus, PrivacyMode


def test_a_stated_number_of_records_is_never_replaced_by_the_row_count() -> None:
    privacy = dpft.Privacy(
        epsilon=8, delta=1e-5, num_records=67_349, expected_batch_size=1024, epochs=10
    )
    plan = privacy.plan(row_count=12)
    assert plan.length.num_records == 67_349
    assert plan.length.adjacency is Adjacency.ADD_OR_REMOVE
    assert plan.length.sample_rate == 1024 / 67_349
    assert plan.length.steps == 660


def test_without_a_stated_number_the_row_count_is_public_and_records_are_zeroed_out() -> None:
    plan = dpft.Privacy(epsilon=8, delta=1e-5, expected_batch_size=10, steps=7).plan(1000)
    assert plan.length.num_records == 1000
    assert plan.length.adjacency is Adjacency.ZERO_OUT


def test_the_calibrated_noise_spends_the_target_and_no_more() -> None:
    plan = dpft.Privacy(epsilon=3, delta=1e-5, expected_batch_size=100, epochs=2).plan(5000)
    assert 2.95 < plan.epsilon() <= 3


def test_a_run_cut_short_spends_less() -> None:
    plan = dpft.Privacy(epsilon=3, delta=1e-5, expected_batch_size=100, steps=20).plan(5000)
    assert plan.epsilon(0) == 0 < plan.epsilon(10) < plan.epsilon(20)


def test_noise_is_the_multiplier_times_the_clip_norm() -> None:
    privacy = dpft.Privacy(
        noise_multiplier=1.5, clip_norm=0.1, delta=1e-5, expected_batch_size=10, steps=1
    )
    assert privacy.plan(100).noise_std == pytest.approx(0.15)


def test_a_run_that_is_not_private_has_infinite_epsilon() -> None:
    privacy = dpft.Privacy(
        mode=PrivacyMode.NOT_PRIVATE, delta=1e-5, expected_batch_size=10, steps=5
    )
    plan = privacy.plan(100)
    assert plan.epsilon() == math.inf
    assert not plan.is_private


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"epsilon": -3.0}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"expected_batch_size": 0}, "expected_batch_size"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"noise_multiplier": 1.0}, "exactly one of epsilon"),
        ({"epsilon": None}, "exactly one of epsilon"),
        ({"epochs": 3}, "exactly one of epochs"),
        ({"steps": None}, "exactly one of epochs"),
        ({"evaluation": "noisy"}, "evaluation_epsilon"),
        ({"mode": "not_private"}, "not_private"),
        ({"epsilonn": 3.0}, "epsilonn"),
        ({"clipping": "none"}, "clipping"),
    ],
)
def test_bad_settings_are_refused_by_name(fields: dict[str, object], named: str) -> None:
    good: dict[str, object] = {"epsilon": 3.0, "delta": 1e-5, "steps": 5}
    with pytest.raises(ConfigurationError, match=named):
        dpft.Privacy(**{**good, **fields})


def test_all_bad_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        dpft.Privacy(epsilon=-1, delta=2, steps=0)
    assert all(name in str(caught.value) for name in ("epsilon", "delta", "steps"))


@pytest.mark.parametrize("delta", [0.5, 1e-3])
def test_a_delta_that_leaks_whole_records_is_refused(delta: float) -> None:
    with pytest.raises(ConfigurationError, match="delta"):
        dpft.Privacy(epsilon=3, delta=delta, expected_batch_size=10, steps=5).plan(1000)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected_batch_size"):
        dpft.Privacy(epsilon=3, delta=1e-5, expected_batch_size=101, steps=5).plan(100)


def test_settings_cannot_change_after_they_were_checked() -> None:
    privacy = dpft.Privacy(epsilon=3, delta=1e-5, steps=5)
    with pytest.raises(AttributeError):
        privacy.epsilon = 100.0  # type: ignore[misc]  # frozen
    assert privacy.clipping is ClippingStyle.AUTO_S


NOISY = {"evaluation": EvaluationStatus.NOISY, "evaluation_epsilon": 0.5}


def noisy(**fields: object) -> dpft.Privacy:
    given: dict[str, object] = {"epsilon": 2.0, "delta": 1e-4, "expected_batch_size": 50}
    given |= {"steps": 30, "accountant": Accountant.RDP}
    return dpft.Privacy(**(given | NOISY | fields))


def test_a_noisy_metric_takes_part_of_the_target() -> None:
    free = noisy(evaluation=None, evaluation_epsilon=None).plan(1000)
    plan = noisy().plan(1000)
    metric = DiscreteLaplace(0.5, adjacency=Adjacency.ZERO_OUT)
    assert plan.noise_multiplier > free.noise_multiplier
    assert 1.9 < plan.epsilon() <= 2.0
    assert plan.epsilon() == epsilon([plan.mechanism(), metric], 1e-4, accountant="rdp")
    assert 0 < plan.epsilon(0) < plan.epsilon(3) < plan.epsilon()


def test_a_metric_on_records_kept_apart_leaves_the_noise_as_it_is() -> None:
    free = noisy(evaluation=None, evaluation_epsilon=None).plan(1000)
    plan = noisy(evaluation_split="year = 2020").plan(1000)
    assert plan.noise_multiplier == free.noise_multiplier
    assert plan.epsilon() == free.epsilon()
    weak = noisy(epsilon=None, noise_multiplier=50.0, evaluation_split="year = 2020").plan(1000)
    metric = DiscreteLaplace(0.5, adjacency=Adjacency.ZERO_OUT)
    assert weak.epsilon() == epsilon(metric, 1e-4, accountant="rdp") > 0.1


def test_a_metric_that_costs_more_than_the_whole_target_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"evaluation_epsilon=3\.0 <= epsilon=2\.0"):
        noisy(evaluation_epsilon=3.0, evaluation_split="year = 2020")
    with pytest.raises(ConfigurationError, match=r"epsilon=2\.0 to be reachable"):
        noisy(evaluation_epsilon=3.0).plan(1000)
