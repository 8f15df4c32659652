import pytest
from peft import LoraConfig, PromptTuningConfig

from dpft import adapters
from dpft.adapters.options import fill, given
from dpft.errors import ConfigurationError


def test_what_is_none_is_derived() -> None:
    assert given({"r": None, "lora_alpha": 0}) == {"lora_alpha": 0}


def test_what_is_given_wins() -> None:
    made = fill(LoraConfig, {"r": 3, "lora_alpha": 5}, {"r": 2, "lora_alpha": None})
    assert (made.r, made.lora_alpha) == (2, 5)


def test_all_unknown_options_are_named_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        fill(LoraConfig, {}, {"lora_alpa": 1, "xyz": None})
    assert "Did you mean lora_alpha?" in caught.value.messages[0]
    assert "Expected xyz to be an option" in caught.value.messages[1]


def test_what_peft_refuses_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="tokenizer_name_or_path"):
        fill(PromptTuningConfig, {}, {"prompt_tuning_init": "TEXT"})


@pytest.mark.parametrize("name", ["attempt", "bottleneck", "compacter", "ffa_lora", "lora"])
def test_every_method_refuses_a_typo(name: str) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean modules_to_save"):
        adapters.config(name, "bert", "SEQ_CLS", modules_to_sav=["classifier"])


def test_a_refusal_of_our_own_is_not_put_into_the_mouth_of_peft() -> None:
    with pytest.raises(ConfigurationError, match=r"^Expected init_lora_weights=True"):
        adapters.config("ffa_lora", "bert", "SEQ_CLS", use_dora=True)
