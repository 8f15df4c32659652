"""What is read of a LoRA is what peft adds to the weights, or it is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpft.adapters.algebra import BaseModel, LowRank, read, write
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PLACE = "bert.encoder.layer.0.attention.self.query.weight"
MODULE = "bert.encoder.layer.0.attention.self.query"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lora_alpha": 3},
        {"use_rslora": True, "r": 4},
        {"rank_pattern": {"query": 3}},
        {"alpha_pattern": {"query": 5}, "use_rslora": True},
    ],
)
def test_the_scaling_is_that_of_peft(
    options: dict[str, Any], adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    model = adapted("lora", **options)
    part: Any = read(source(model)).parts[PLACE]
    expected = model.get_base_model().get_submodule(MODULE).get_delta_weight("default")
    assert torch.allclose(part.dense(), expected, atol=1e-6)


def test_dora_is_what_peft_merges(
    adapted: Callable[..., Any], source: Callable[..., Any], tiny: Callable[..., Any]
) -> None:
    model = adapted("lora", use_dora=True)
    base = BaseModel(tiny())
    part: Any = read(source(model, base)).parts[PLACE]
    merged = model.merge_and_unload().get_parameter(PLACE)
    assert torch.allclose(base.tensor(PLACE) + part.added, merged, atol=1e-6)


def test_dora_without_its_base_is_refused(
    adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigurationError, match="base"):
        read(source(adapted("lora", use_dora=True)))


def test_the_bias_of_the_second_factor_is_scaled(
    adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    model = adapted("lora", lora_bias=True, lora_alpha=12)
    delta = read(source(model))
    layer = model.get_base_model().get_submodule(MODULE)
    expected = 1.5 * layer.lora_B["default"].bias
    part: Any = delta.parts[f"{MODULE}.bias"]
    assert torch.allclose(part.added, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [(0, 1)]},
    ],
)
def test_options_that_are_not_understood_are_refused(
    options: dict[str, Any], adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    found = source(adapted("lora"))
    for name, value in options.items():
        setattr(found.config, name, value)
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        read(found)


def test_a_rank_that_is_not_that_of_the_tensors_is_refused(
    adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    found = source(adapted("lora"))
    found.config.r = 4
    with pytest.raises(ConfigurationError, match="rank"):
        read(found)


def test_tensors_that_are_not_understood_are_refused(
    adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    found = source(adapted("lora"))
    found.tensors["base_model.model.bert.pooler.strange"] = torch.ones(1)
    with pytest.raises(ConfigurationError, match="strange"):
        read(found)


def test_what_is_written_has_scaling_one_at_every_layer(
    adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    model = adapted("lora", use_rslora=True, rank_pattern={"query": 3})
    config = write(read(source(model))).config
    assert not config.use_rslora
    assert config.r == config.lora_alpha
    assert config.rank_pattern == config.alpha_pattern
    assert len(config.rank_pattern) == 1


def test_ffa_lora_keeps_its_public_seed(
    adapted: Callable[..., Any], source: Callable[..., Any]
) -> None:
    delta = read(source(adapted("ffa_lora", seed=5)))
    assert delta.frozen_seed == 5
    assert isinstance(delta.parts[PLACE], LowRank)
    assert write(delta).config.auto_mapping == {"dpft_ffa_lora_seed": 5}
