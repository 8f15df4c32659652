import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from dpft.errors import ConfigurationError
from dpft.recipes.planning.shapes import SHAPES, shape_config


def weights(name: str, depth: int, auto: type[object]) -> int:
    config = shape_config(name)
    config.num_hidden_layers = depth
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:depth]
    with torch.device("meta"):
        model: torch.nn.Module = auto.from_config(config)  # type: ignore[attr-defined]  # theirs
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama-7b", 6_738_415_616),
        ("llama3-8b", 8_030_261_248),
        ("qwen2-7b", 7_615_616_512),
        ("roberta-large", 355_359_744),
    ],
)
def test_a_shape_has_the_published_number_of_weights(name: str, published: int) -> None:
    auto = AutoModel if name == "roberta-large" else AutoModelForCausalLM
    one, two = (weights(name, depth, auto) for depth in (1, 2))
    depth = SHAPES[name]["num_hidden_layers"]
    assert one + (two - one) * (depth - 1) == published


def test_an_unknown_shape_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"shape=llama-8b to be one of llama-7b, "):
        shape_config("llama-8b")
