from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PromptTuningConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dpft import adapters
from dpft.adapters.prompt import configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tensors = Mapping[str, torch.Tensor]


def rows(model: Any) -> torch.Tensor:
    weight = model.prompt_encoder["default"].embedding.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def built(model: Any, **options: Any) -> Any:
    return adapters.build("prompt", model, num_virtual_tokens=3, **options)


def test_every_row_of_an_encoder_decoder_is_read(
    tiny: Callable[..., Any], texts: Callable[..., Tensors], loop: Callable[..., Tensors]
) -> None:
    model = built(tiny("t5").double())
    assert rows(model).shape == (3, 16)
    (grads,) = loop(model, texts("t5")).values()
    assert bool(grads.abs().sum((0, 2)).all())


def test_rows_start_as_words_of_the_vocabulary_by_the_generator(tiny: Callable[..., Any]) -> None:
    def drawn(seed: int) -> torch.Tensor:
        model = tiny("bert")
        torch.manual_seed(seed)
        return rows(built(model))

    words = tiny("bert").get_input_embeddings().weight
    assert all(bool((words == row).all(1).any()) for row in drawn(0))
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_rows_may_start_at_random(tiny: Callable[..., Any]) -> None:
    words = tiny("bert").get_input_embeddings().weight
    random = rows(built(tiny("bert"), prompt_tuning_init="RANDOM"))
    assert not any(bool((words == row).all(1).any()) for row in random)


def test_rows_may_start_from_a_public_text(tiny: Callable[..., Any], tmp_path: Path) -> None:
    words = models.WordLevel({"[UNK]": 0, "good": 5, "bad": 9}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]
    made.save_pretrained(str(tmp_path))
    text = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "good bad"}
    model = built(tiny("bert"), **text, tokenizer_name_or_path=str(tmp_path))
    expected = tiny("bert").get_input_embeddings().weight[[5, 9, 5]]  # repeated to fill the rows
    assert torch.equal(rows(model), expected)


@pytest.mark.parametrize("missing", ["prompt_tuning_init_text", "tokenizer_name_or_path"])
def test_a_text_to_start_from_needs_the_text_and_the_tokenizer(missing: str) -> None:
    options = {"prompt_tuning_init_text": "good", "tokenizer_name_or_path": "folder"}
    del options[missing]
    with pytest.raises(ConfigurationError, match=missing):
        configure("bert", "SEQ_CLS", prompt_tuning_init="TEXT", **options)


def test_there_are_twenty_rows_unless_asked_for_otherwise() -> None:
    assert configure("bert", "SEQ_CLS").num_virtual_tokens == 20
    assert configure("bert", "SEQ_CLS", num_virtual_tokens=4).num_virtual_tokens == 4


def test_without_a_task_peft_would_never_show_the_prompt(
    tiny: Callable[..., Any], texts: Callable[..., Tensors]
) -> None:
    with pytest.raises(ConfigurationError, match="task_type to be given with adapter=prompt"):
        configure("bert", None)
    unseen = PeftModel(tiny("bert"), PromptTuningConfig(num_virtual_tokens=3))
    assert torch.equal(unseen(**texts("bert")).logits, tiny("bert")(**texts("bert")).logits)


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_decoders_that_classify_are_refused(model_type: str) -> None:
    with pytest.raises(ConfigurationError, match="length of its batch-mates"):
        adapters.config("prompt", model_type, "SEQ_CLS")
