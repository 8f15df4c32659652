"""Mechanisms check themselves, and survive JSON without loss."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import Adjacency, ConfigurationError, PoissonGaussian, mechanism_from_json

MECHANISMS = st.builds(
    PoissonGaussian,
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.floats(min_value=0, exclude_min=True, max_value=1),
    st.integers(1, 10**12),
    st.sampled_from(Adjacency),
)


@settings(max_examples=50)
@given(MECHANISMS)
def test_json_and_back_is_the_same_mechanism(mechanism: PoissonGaussian) -> None:
    assert mechanism_from_json(json.loads(json.dumps(mechanism.to_json()))) == mechanism


@pytest.mark.parametrize(
    "noise", [0.0, -1.0, math.nan, math.inf, True, "1.0", None, pytest.param(10**400, id="huge")]
)
def test_noise_that_is_no_positive_number_is_refused(noise: object) -> None:
    with pytest.raises(ConfigurationError, match="noise_multiplier="):
        PoissonGaussian(noise, 0.1, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0000001, math.nan, math.inf, True, "0.1", None])
def test_a_sample_rate_that_is_no_probability_is_refused(rate: object) -> None:
    with pytest.raises(ConfigurationError, match="sample_rate="):
        PoissonGaussian(1.0, rate, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [0, -1, 1.0, 1.5, math.nan, True, "1", None])
def test_steps_that_are_no_count_are_refused(steps: object) -> None:
    with pytest.raises(ConfigurationError, match="steps="):
        PoissonGaussian(1.0, 0.1, steps)  # type: ignore[arg-type]


def test_an_unknown_adjacency_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean replace_one"):
        PoissonGaussian(1.0, 0.1, 1, "replace")  # type: ignore[arg-type]


def test_all_wrong_fields_are_named_together() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        PoissonGaussian(-1.0, 2.0, 0, "both")  # type: ignore[arg-type]
    assert len(refusal.value.messages) == 4


def test_equal_values_are_written_alike() -> None:
    whole = PoissonGaussian(1, 1, 3, "zero_out")  # type: ignore[arg-type]
    exact = PoissonGaussian(1.0, 1.0, 3, Adjacency.ZERO_OUT)
    assert whole == exact
    assert json.dumps(whole.to_json()) == json.dumps(exact.to_json())


def test_a_mechanism_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PoissonGaussian(1.0, 0.1, 1).steps = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [{"kind": "laplace"}, {"kind": None}, {"clip_norm": 1.0}, {"steps": 1.5}, {"adjacency": "any"}],
)
def test_json_that_is_not_understood_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        mechanism_from_json({**PoissonGaussian(1.0, 0.1, 1).to_json(), **change})


@pytest.mark.parametrize("name", ["kind", "noise_multiplier", "sample_rate", "steps", "adjacency"])
def test_json_with_a_missing_field_is_refused(name: str) -> None:
    fields = PoissonGaussian(1.0, 0.1, 1).to_json()
    del fields[name]
    with pytest.raises(ConfigurationError):
        mechanism_from_json(fields)


def test_json_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mapping"):
        mechanism_from_json(["poisson_gaussian"])


def test_the_event_states_every_parameter() -> None:
    event = PoissonGaussian(0.6, 0.0152, 660).event()
    assert event.count == 660
    assert event.event.sampling_probability == 0.0152
    assert event.event.event.noise_multiplier == 0.6


def test_the_event_of_full_batches_has_no_sampling() -> None:
    event = PoissonGaussian(0.6, 1.0, 660).event()
    assert event.event.noise_multiplier == 0.6
