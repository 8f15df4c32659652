"""Well-known models as numbers, to plan with before anything is fetched."""

from typing import Any

from dpft.errors import ConfigurationError

__all__ = ["SHAPES", "shape_config"]

_LLAMA: dict[str, Any] = {"model_type": "llama", "tie_word_embeddings": False}
SHAPES: dict[str, dict[str, Any]] = {
    "llama-7b": _LLAMA
    | {
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32_000,
    },
    "llama3-8b": _LLAMA
    | {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
    "qwen2-7b": {
        "model_type": "qwen2",
        "tie_word_embeddings": False,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
    },
    "roberta-large": {
        "model_type": "roberta",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "vocab_size": 50_265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
    },
}
"""Fields of their configurations in transformers; the rest is as there by default."""


def shape_config(name: str) -> Any:
    """Return the configuration of a well-known model.

    Args:
        name: One of `SHAPES`.

    Returns:
        The configuration of transformers.

    Raises:
        ConfigurationError: If there is no such shape.

    Privacy:
        Nothing, no data touched.
    """
    if name not in SHAPES:
        raise ConfigurationError(
            f"Expected shape={name} to be one of {', '.join(SHAPES)}. Their numbers are in the "
            "package. Name one, or a folder with a config.json by model=FOLDER."
        )
    from transformers import AutoConfig

    fields = dict(SHAPES[name])
    return AutoConfig.for_model(fields.pop("model_type"), **fields)
