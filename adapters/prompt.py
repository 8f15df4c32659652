"""Prompt tuning (Lester et al. 2021), as peft implements it: n trainable rows before the input.

An encoder-decoder gets its prompt before the encoder's input only. peft would by default allot as
many rows again, which no forward pass reads, but which noise would still be added to.

Rows start as words drawn from the vocabulary, by torch's generator: `dpft.fit` and `dpft train`
seed it with the run's public seed. `prompt_tuning_init="RANDOM"` draws them from a normal
distribution; `"TEXT"` takes `prompt_tuning_init_text`, a public text, by the tokenizer that
`tokenizer_name_or_path` names.

peft treats prompts, here and in `dpft.adapters.prefix`, apart from other adapters: it does not load
one for further training, and leaves it trainable when it loads one for prediction.
"""

from typing import Any

from peft import PromptTuningConfig, PromptTuningInit

from dpft.adapters.options import fill
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.targets import head_modules
from dpft.errors import ConfigurationError

__all__ = ["configure", "refuse_without_task"]

_LAST_TOKEN_POOLERS = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3"})


def configure(model_type: str, task_type: str | None, **options: Any) -> PromptTuningConfig:
    """Configure prompt tuning with 20 rows drawn from the vocabulary.

    Args:
        model_type: transformers' model type; every architecture has input embeddings.
        task_type: peft's task type.
        **options: Fields of `peft.PromptTuningConfig`; they win over what is filled in. The model
            sees `num_virtual_tokens` positions more than the text has.

    Returns:
        peft's configuration.

    Raises:
        ConfigurationError: If there is no task type, the head would see padding, an option is
            unknown, or the text or the tokenizer of `prompt_tuning_init="TEXT"` is missing.

    Privacy:
        Nothing, no data touched. A text to start from must be public: it is not protected.

    References:
        Lester et al. 2021 (2104.08691), section 2.1; section 3.2 for vocabulary and text, and for
        20 rows, beyond which gains are small.
    """
    refuse_without_task(AdapterName.PROMPT.value, task_type)
    if task_type == "SEQ_CLS" and model_type in _LAST_TOKEN_POOLERS:
        raise ConfigurationError(
            f"Expected model_type={model_type} without a classification head for adapter=prompt. "
            "peft hides the words from the head, which then reads the last position of the batch: "
            "a record would depend on the length of its batch-mates. Choose adapter=attempt or "
            "lora."
        )
    filled: dict[str, Any] = {
        "task_type": task_type,
        "num_virtual_tokens": 20,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": PromptTuningInit.SAMPLE_VOCAB,
        "modules_to_save": head_modules(model_type, task_type),
    }
    return fill(PromptTuningConfig, filled, options)


def refuse_without_task(name: str, task_type: str | None) -> None:
    """Raise where peft would leave a prompt out of the forward pass without saying so.

    Args:
        name: Name of the method.
        task_type: peft's task type, or None.

    Raises:
        ConfigurationError: If there is no task type.

    Privacy:
        Nothing, no data touched.
    """
    if task_type is None:
        raise ConfigurationError(
            f"Expected task_type to be given with adapter={name}. Without it peft never shows the "
            "prompt to the model. Use a model with a head, or give task_type=FEATURE_EXTRACTION "
            "to dpft.adapters.config for a bare encoder."
        )


register(AdapterName.PROMPT.value, configure)
