"""Ranges of the optimiser's settings, and that the command line reaches them all."""

import dataclasses
from enum import Enum
from typing import Any

import pytest

from dpft.errors import ConfigurationError
from dpft.optim import Averaging, Optim, OptimizerName, Schedule
from dpft.recipes.config.composition import (
    compose_config,
    compose_settings,
    settings_from_yaml,
    yaml_of,
)

CHANGED = Optim(
    name=OptimizerName.ADAM_BC,
    learning_rate=0.3,
    head_learning_rate_factor=5.0,
    weight_decay=0.1,
    betas=(0.8, 0.9),
    eps=1e-6,
    noise_floor=0.2,
    schedule=Schedule.CONSTANT,
    warmup_steps=3,
    averaging=Averaging.EMA,
    averaging_decay=0.95,
)


def text(value: Any) -> str:
    value = value.value if isinstance(value, Enum) else value
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("averaging", "polyak", "averaging"),
        ("averaging_decay", 0.0, "averaging_decay"),
        ("averaging_decay", 1.0, "averaging_decay"),
        ("betas", (1.0, 0.9), "betas"),
        ("betas", (0.9, 1.0), "betas"),
        ("betas", (-0.1, 0.9), "betas"),
        ("betas", (0.9,), "betas.1"),
        ("betas", (0.9, 0.9, 0.9), "betas"),
        ("betas", (0.9, float("nan")), "betas"),
        ("eps", 0.0, "eps"),
        ("eps", float("inf"), "eps"),
        ("head_learning_rate_factor", 0.0, "head_learning_rate_factor"),
        ("head_learning_rate_factor", -1.0, "head_learning_rate_factor"),
        ("head_learning_rate_factor", float("nan"), "head_learning_rate_factor"),
        ("name", "adambc", "name"),
        ("noise_floor", 0.0, "noise_floor"),
        ("noise_floor", 1.1, "noise_floor"),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Expected {named}\b") as caught:
        Optim(**{field: value})
    assert len(caught.value.messages) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("betas", (0.0, 0.0)), ("noise_floor", 1.0), ("averaging_decay", 0.9999), ("eps", 1e-30)],
)
def test_the_ends_of_the_ranges_are_accepted(field: str, value: Any) -> None:
    assert getattr(Optim(**{field: value}), field) == value


def test_the_defaults_average_nothing_and_treat_the_head_like_the_rest() -> None:
    optim = Optim()
    assert optim.averaging is Averaging.NONE
    assert optim.head_learning_rate_factor == 1
    assert (optim.betas, optim.eps) == ((0.9, 0.999), 1e-8)


def test_every_field_is_reachable_from_the_command_line() -> None:
    fields = [field.name for field in dataclasses.fields(Optim)]
    assert all(getattr(CHANGED, field) != getattr(Optim(), field) for field in fields)
    overrides = [f"optim.{field}={text(getattr(CHANGED, field))}" for field in fields]
    assert compose_settings(overrides).optim == CHANGED
    assert settings_from_yaml(yaml_of(compose_config(overrides))).optim == CHANGED


@pytest.mark.parametrize(
    "override", ["optim.averaging_decay=1", "optim.betas=[0.9,2]", "optim.averaging=mean"]
)
def test_a_bad_value_on_the_command_line_is_refused(override: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Expected optim\."):
        compose_settings([override])
