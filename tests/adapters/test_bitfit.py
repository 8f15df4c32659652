from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn

from dpft import adapters
from dpft.adapters.bitfit import configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tensors = Mapping[str, torch.Tensor]
WITH_BIASES = ["bert", "roberta", "distilbert", "deberta", "deberta-v2", "gpt2", "qwen2"]
PLAIN_PEFT = """
import sys
import torch
from peft import PeftModel
from transformers import BertForSequenceClassification

base = BertForSequenceClassification.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
expected, batch = torch.load(sys.argv[3])
torch.testing.assert_close(model(**batch).logits, expected, atol=1e-6, rtol=0)
assert "dpft" not in sys.modules
"""


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("architecture", WITH_BIASES)
def test_all_biases_and_the_head_are_trained_and_nothing_else(
    architecture: str, tiny: Callable[..., Any]
) -> None:
    biases = {f"base_model.model.{n}" for n, _ in tiny(architecture).named_parameters()}
    biases = {name for name in biases if name.endswith(".bias")}
    model: Any = adapters.build("bitfit", tiny(architecture))
    heads = {name for name in trained(model) if "modules_to_save" in name}
    own = {name.replace("modules_to_save.default.", "") for name in heads}
    assert trained(model) - heads == biases - own


def test_plain_peft_loads_it_without_the_library(
    tiny: Callable[..., Any],
    stirred: Callable[..., nn.Module],
    texts: Callable[..., Tensors],
    tmp_path: Path,
    beside_transformers: Callable[..., Any],
) -> None:
    tiny("bert").save_pretrained(tmp_path / "base")
    model: Any = stirred(adapters.build("bitfit", tiny("bert")))
    batch = texts("bert")
    model.save_pretrained(str(tmp_path / "adapter"))
    torch.save((model(**batch).logits.detach(), batch), tmp_path / "expected.pt")
    arguments = [str(tmp_path / name) for name in ("base", "adapter", "expected.pt")]
    beside_transformers(PLAIN_PEFT, *arguments).check_returncode()


def test_it_is_trained_further_after_loading(tiny: Callable[..., Any], tmp_path: Path) -> None:
    model: Any = adapters.build("bitfit", tiny("bert"))
    model.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(tiny("bert"), str(tmp_path), is_trainable=True)
    assert trained(again) == trained(model)


def test_disabling_it_does_not_restore_the_biases_and_says_so(tiny: Callable[..., Any]) -> None:
    model: Any = adapters.build("bitfit", tiny("bert"))
    with pytest.warns(UserWarning, match="does not produce the same output"):
        model.base_model.disable_adapter_layers()


def test_a_second_one_is_refused_by_peft(tiny: Callable[..., Any]) -> None:
    model: Any = adapters.build("bitfit", tiny("bert"))
    with pytest.raises(ValueError, match="supports only 1 adapter with bias"):
        model.add_adapter("other", configure("bert", "SEQ_CLS"))


@pytest.mark.parametrize("architecture", ["t5", "llama", "mistral", "qwen3"])
def test_architectures_without_biases_are_refused(
    architecture: str, tiny: Callable[..., Any]
) -> None:
    names = [name for name, _ in tiny(architecture).named_parameters()]
    assert not any(name.endswith(".bias") for name in names)
    with pytest.raises(ConfigurationError, match=f"model_type={architecture} to have biases"):
        adapters.build("bitfit", tiny(architecture))


def test_options_of_lora_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"found r, target_modules\."):
        configure("bert", "SEQ_CLS", target_modules=["query"], r=8)
