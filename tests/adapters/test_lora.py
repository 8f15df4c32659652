from collections.abc import Callable
from typing import Any

import pytest
from peft.tuners.lora import LoraLayer

from dpft import adapters
from dpft.adapters.lora import configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def test_there_is_no_dropout_unless_asked_for() -> None:
    assert configure("bert", "SEQ_CLS").lora_dropout == 0.0
    assert configure("bert", "SEQ_CLS", lora_dropout=0.1).lora_dropout == 0.1


def targets(model_type: str, task_type: str | None, **options: Any) -> set[str]:
    return set(configure(model_type, task_type, **options).target_modules or ())


def test_query_and_value_are_the_targets() -> None:
    assert targets("roberta", "SEQ_CLS") == {"query", "value"}
    assert targets("t5", "SEQ_2_SEQ_LM") == {"q", "v"}


def test_transposed_weights_of_gpt2_are_known() -> None:
    assert configure("gpt2", "SEQ_CLS").fan_in_fan_out is True
    assert configure("bert", "SEQ_CLS").fan_in_fan_out is False


def test_options_of_none_are_filled_in() -> None:
    assert targets("bert", None, target_modules=None) == {"query", "value"}


def test_unknown_architecture_without_targets_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Target modules are never guessed"):
        configure("mamba", "SEQ_CLS")


@pytest.mark.parametrize(("option", "scaling"), [({}, 16 / 4), ({"use_rslora": True}, 16 / 2)])
def test_scaling_is_by_the_rank_or_its_root(
    option: dict[str, Any], scaling: float, tiny: Callable[..., Any]
) -> None:
    model = adapters.build("lora", tiny("bert"), r=4, lora_alpha=16, **option)
    layers = [each for each in model.modules() if isinstance(each, LoraLayer)]
    assert {layer.scaling["default"] for layer in layers} == {scaling}


def test_dora_trains_the_norms_of_the_weights(tiny: Callable[..., Any]) -> None:
    model = adapters.build("lora", tiny("bert"), use_dora=True)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sum("lora_magnitude_vector" in name for name in trained) == 4
