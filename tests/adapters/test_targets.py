from typing import Any

import pytest
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    T5Config,
)

from dpft import adapters
from dpft.adapters.targets import (
    attention_targets,
    has_biases,
    scaling_targets,
    task_type_of,
)
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DISTILBERT: dict[str, Any] = {
    "vocab_size": 30,
    "dim": 16,
    "n_layers": 1,
    "n_heads": 2,
    "hidden_dim": 16,
}
GPT2: dict[str, Any] = {"vocab_size": 30, "n_embd": 16, "n_layer": 1, "n_head": 2}
T5: dict[str, Any] = {
    "vocab_size": 30,
    "d_model": 16,
    "d_ff": 16,
    "num_layers": 1,
    "num_heads": 2,
    "d_kv": 8,
}
ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def every_architecture() -> list[PretrainedConfig]:
    encoder = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"}
    return [
        BertConfig(**encoder),
        DebertaConfig(**encoder),
        DebertaV2Config(**encoder),
        DistilBertConfig(**DISTILBERT),
        GPT2Config(**GPT2, **ENDS),
        LlamaConfig(**SIZES),
        MistralConfig(**SIZES, head_dim=8),
        Qwen2Config(**SIZES),
        Qwen3Config(**SIZES, head_dim=8),
        RobertaConfig(**encoder),
        T5Config(**T5),
    ]


@pytest.mark.parametrize("config", every_architecture(), ids=lambda config: config.model_type)
@pytest.mark.parametrize(
    "auto", [AutoModelForSequenceClassification, AutoModelForTokenClassification]
)
def test_every_fresh_layer_of_the_head_is_trained_and_saved(
    config: PretrainedConfig, auto: type[AutoModelForSequenceClassification]
) -> None:
    model = auto.from_config(config)  # type: ignore[no-untyped-call]  # theirs
    backbone = model.base_model_prefix
    head = [name for name, _ in model.named_parameters() if not name.startswith(f"{backbone}.")]
    adapted = adapters.build("lora", model, r=2)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    for name in head:
        layer = name.split(".")[0]
        assert any(f".{layer}.modules_to_save." in other for other in trained), name
    assert any("lora_A" in name for name in trained)


def test_unknown_architecture_says_how_to_give_targets_by_hand() -> None:
    with pytest.raises(ConfigurationError, match=r"model_type=mamba .*adapter\.target_modules="):
        attention_targets("mamba")


def test_targets_given_by_hand_serve_an_unknown_architecture() -> None:
    made = adapters.config("lora", "mamba", "SEQ_CLS", target_modules=["in_proj"])
    assert made.to_dict()["target_modules"] == {"in_proj"}


def test_a_bare_encoder_has_no_task_type() -> None:
    class BertModel:
        """Stands for a model without a head."""

    assert task_type_of(BertModel()) is None  # type: ignore[arg-type]


def test_what_is_scaled_in_an_unknown_architecture_is_never_guessed() -> None:
    with pytest.raises(
        ConfigurationError, match=r"model_type=mamba .*adapter\.feedforward_modules="
    ):
        scaling_targets("mamba")


@pytest.mark.parametrize("config", every_architecture(), ids=lambda config: config.model_type)
def test_architectures_have_the_biases_that_the_table_says(config: PretrainedConfig) -> None:
    model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]  # theirs
    names = [name for name, _ in model.named_parameters()]
    assert any(name.endswith(".bias") for name in names) is has_biases(config.model_type)
