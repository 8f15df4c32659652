import dataclasses

import pytest
from transformers import LlamaConfig

from dpft.recipes.config.composition import compose_settings
from dpft.recipes.planning import forecast as forecasting
from dpft.recipes.planning.forecast import Forecast, forecast, physical_batch
from dpft.recipes.planning.trial import Costs

COSTS = Costs(
    frozen=1000,
    linear=640,
    rows=20,
    largest=320,
    trained=10,
    trained_bytes=40,
    activation_bytes=400,
    peak_bytes=500,
    kept_bytes=100,
    flops=6000,
)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "costs_of", lambda *_: COSTS)


def foreseen(*overrides: str) -> Forecast:
    common = ["architecture.max_length=100", "performance.token_budget=350"]
    return forecast(compose_settings([*common, *overrides]), LlamaConfig(), 1000.0)


def test_memory_is_what_rests_and_the_most_that_comes_on_top() -> None:
    memory = foreseen().memory
    assert (memory.weights, memory.trained, memory.clipped_sum) == (4000, 40, 40)
    assert memory.optimiser == 80, "two moments of adam"
    assert memory.peak == 4000 + 40 + 80 + 40 + 500
    assert dataclasses.replace(memory, update=900).peak == memory.peak + 400


@pytest.mark.parametrize(
    ("overrides", "moments"),
    [(("optim.name=sgd",), 0), (("optim.averaging=ema",), 3), (("optim.name=adamw",), 2)],
)
def test_the_optimiser_holds_its_moments(overrides: tuple[str, ...], moments: int) -> None:
    assert foreseen(*overrides).memory.optimiser == 40 * moments


@pytest.mark.parametrize(
    ("overrides", "weights"),
    [
        (("architecture.dtype=bfloat16",), 2000),
        (("architecture.quantisation=int8",), 4 * 360 + 640 + 4 * 20),
        (("architecture.quantisation=int4",), 4 * 360 + 320 + 4 * 10),
        (("architecture.quantisation=int8", "architecture.dtype=bfloat16"), 2 * 360 + 640 + 40),
    ],
)
def test_rounded_weights_take_fewer_bytes_and_are_widened_one_at_a_time(
    overrides: tuple[str, ...], weights: int
) -> None:
    memory = foreseen(*overrides).memory
    assert memory.weights == weights
    width = 2 if "architecture.dtype=bfloat16" in overrides else 4
    widened = 320 * width if "quantisation" in overrides[0] else 0
    assert memory.private_pass == 500 + widened


def test_time_is_work_by_speed() -> None:
    found = foreseen("privacy.expected_batch_size=32")
    assert found.records == 3
    assert found.flops_per_step == 6000 / 3 * 32
    assert found.seconds_per_step == found.flops_per_step / 1000
    assert dataclasses.replace(found, flops_per_second=None).seconds_per_step is None


def test_as_many_records_fit_as_there_is_memory_for() -> None:
    found = foreseen()
    assert found.records_that_fit(found.memory.peak) == found.records
    assert found.records_that_fit(found.memory.at_rest + 2 * 500) == 2 * found.records
    assert found.records_that_fit(1.0) == 0


@pytest.mark.parametrize(
    ("overrides", "records"),
    [
        (("performance.token_budget=350",), 3),
        (("performance.token_budget=50",), 1),
        (("performance.token_budget=900", "performance.max_physical_batch=4"), 4),
        (("performance.token_budget=900", "privacy.expected_batch_size=2"), 2),
    ],
)
def test_a_physical_batch_is_what_the_budget_holds(
    overrides: tuple[str, ...], records: int
) -> None:
    settings = compose_settings(["architecture.max_length=100", *overrides])
    assert physical_batch(settings) == records
