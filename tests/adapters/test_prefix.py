from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn

import dpft
from dpft import adapters
from dpft.adapters.prefix import configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tensors = Mapping[str, torch.Tensor]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2", "t5", "llama"])
@pytest.mark.parametrize("projected", [False, True])
def test_gradients_equal_a_loop_over_single_records(
    architecture: str,
    projected: bool,
    tiny: Callable[..., Any],
    stirred: Callable[..., nn.Module],
    texts: Callable[..., Tensors],
    losses: Any,
    loop: Callable[..., Tensors],
    gradient_error: Callable[..., float],
) -> None:
    options = {"prefix_projection": True, "encoder_hidden_size": 6} if projected else {}
    made = adapters.build("prefix", tiny(architecture), num_virtual_tokens=3, **options)
    model, batch = stirred(made.double()), texts(architecture)
    expected = loop(model, batch)
    assert all(bool(grads.any()) for grads in expected.values())
    assert gradient_error(dpft.per_record_gradients(model, losses, batch), expected) <= 1e-9


def test_there_are_ten_positions_unless_asked_for_otherwise() -> None:
    assert configure("bert", "SEQ_CLS").num_virtual_tokens == 10
    assert configure("bert", "SEQ_CLS", num_virtual_tokens=4).num_virtual_tokens == 4


def test_without_a_task_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="task_type to be given with adapter=prefix"):
        configure("bert", None)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5", "llama"])
def test_saved_and_loaded_outputs_are_equal_bit_by_bit(
    architecture: str,
    tiny: Callable[..., Any],
    stirred: Callable[..., nn.Module],
    texts: Callable[..., Tensors],
    tmp_path: Path,
) -> None:
    made = adapters.build("prefix", tiny(architecture), num_virtual_tokens=3)
    model: Any = stirred(made)
    batch = texts(architecture)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny(architecture), str(tmp_path))
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert not torch.equal(
        model(**batch).logits[:, -1:], tiny(architecture)(**batch).logits[:, -1:]
    )


def test_peft_does_not_load_it_for_further_training(
    tiny: Callable[..., Any], tmp_path: Path
) -> None:
    adapters.build("prefix", tiny("gpt2"), num_virtual_tokens=3).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="Cannot set a prompt learning adapter to trainable"):
        PeftModel.from_pretrained(tiny("gpt2"), str(tmp_path), is_trainable=True)
