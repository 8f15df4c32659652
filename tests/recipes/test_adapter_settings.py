"""Every method's settings are options that its own module accepts, with the same defaults."""

import dataclasses
from typing import Any

import pytest

from dpft import adapters
from dpft.adapters import AdapterName
from dpft.errors import ConfigurationError
from dpft.recipes.config.adapter_settings import ADAPTER_CLASSES
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.config.schema import TrainSettings

OURS = {"lora_alpha": 8}  # peft's own default, where the command line has another


def settings(name: str, *overrides: str) -> TrainSettings:
    return compose_settings([f"adapter={name}", *overrides])


def test_every_method_has_its_settings() -> None:
    assert {name.value for name in AdapterName} | {"full"} == ADAPTER_CLASSES.keys()


@pytest.mark.parametrize("name", ADAPTER_CLASSES)
def test_the_choice_of_a_method_brings_its_settings(name: str) -> None:
    made = settings(name)
    assert type(made.adapter) is ADAPTER_CLASSES[name]
    assert made.adapter.name.value == name


@pytest.mark.parametrize("name", [name.value for name in AdapterName])
def test_the_method_takes_every_option_and_has_the_same_defaults(name: str) -> None:
    class_ = ADAPTER_CLASSES[name]
    options = {
        field.name: field.default for field in dataclasses.fields(class_) if field.name != "name"
    }
    bare = adapters.config(name, "bert", "SEQ_CLS").to_dict()
    shown = {key: bare[key] for key in options if key in bare}
    given = {key: value for key, value in options.items() if value is not None}
    assert {key: OURS.get(key, value) for key, value in plain(given).items() if key in shown} == {
        key: plain(shown)[key] for key in given if key in shown
    }
    adapters.config(name, "bert", "SEQ_CLS", **settings(name).adapter_options())


def plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: getattr(value, "value", value) for key, value in values.items()}


def test_options_reach_the_method_by_name() -> None:
    made = settings("ia3", "adapter.target_modules=[key]", "adapter.feedforward_modules=[]")
    assert made.adapter_options() == {"target_modules": ["key"], "feedforward_modules": []}
    assert (
        settings("compacter", "adapter.placement=feed_forward").adapter_options()["placement"]
        == "feed_forward"
    )


@pytest.mark.parametrize(
    ("name", "override", "nearest"),
    [
        ("compacter", "adapter.phm_dimm=4", "adapter.phm_dim"),
        ("ffa_lora", "adapter.sed=1", "adapter.seed"),
        ("prompt", "adapter.num_virtual_token=3", "adapter.num_virtual_tokens"),
    ],
)
def test_a_typo_in_an_option_suggests_the_nearest(name: str, override: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Did you mean {nearest}"):
        settings(name, override)


def test_an_option_of_another_method_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"adapter\.r to be a known setting"):
        settings("ia3", "adapter.r=8")


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("bottleneck", "adapter.placement=houlsbi"),
        ("ffa_lora", "adapter.seed=-1"),
        ("prefix", "adapter.num_virtual_tokens=0"),
        ("prompt", "adapter.prompt_tuning_init=WORDS"),
    ],
)
def test_values_out_of_range_are_named(name: str, override: str) -> None:
    with pytest.raises(ConfigurationError, match=override.split("=", maxsplit=1)[0]):
        settings(name, override)
