"""What peft's prompt learning does and does not do on being saved and loaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn

from dpft import adapters

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.parametrize("method", ["prefix", "prompt"]),
]


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5", "llama"])
def test_saved_and_loaded_outputs_are_equal_bit_by_bit(
    method: str,
    architecture: str,
    tiny: Callable[..., Any],
    stirred: Callable[..., nn.Module],
    texts: Callable[..., Mapping[str, torch.Tensor]],
    tmp_path: Path,
) -> None:
    made = adapters.build(method, tiny(architecture), num_virtual_tokens=3)
    model: Any = stirred(made)
    batch = texts(architecture)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny(architecture), str(tmp_path))
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    plain = tiny(architecture)(**batch).logits
    assert not torch.equal(model(**batch).logits[:, -1:], plain[:, -1:])


def test_peft_does_not_load_it_for_further_training(
    method: str, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    adapters.build(method, tiny("gpt2"), num_virtual_tokens=3).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="Cannot set a prompt learning adapter to trainable"):
        PeftModel.from_pretrained(tiny("gpt2"), str(tmp_path), is_trainable=True)
