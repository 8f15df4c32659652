import pytest

from dpft.adapters.lora import configure
from dpft.errors import ConfigurationError


def test_there_is_no_dropout_unless_asked_for() -> None:
    assert configure("bert", "SEQ_CLS").lora_dropout == 0.0
    assert configure("bert", "SEQ_CLS", lora_dropout=0.1).lora_dropout == 0.1


def test_query_and_value_are_the_targets() -> None:
    assert configure("roberta", "SEQ_CLS").target_modules == {"query", "value"}
    assert configure("t5", "SEQ_2_SEQ_LM").target_modules == {"q", "v"}


def test_transposed_weights_of_gpt2_are_known() -> None:
    assert configure("gpt2", "SEQ_CLS").fan_in_fan_out is True
    assert configure("bert", "SEQ_CLS").fan_in_fan_out is False


def test_options_of_none_are_filled_in() -> None:
    assert configure("bert", None, target_modules=None).target_modules == {"query", "value"}


def test_unknown_architecture_without_targets_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Target modules are never guessed"):
        configure("mamba", "SEQ_CLS")
