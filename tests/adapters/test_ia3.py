from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from peft.tuners.ia3 import IA3Layer
from torch import nn

from dpft import adapters
from dpft.adapters.ia3 import configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tensors = Mapping[str, torch.Tensor]
SCALED = {  # architecture -> ends of the layers whose output and whose input is scaled, each once
    "bert": ({"self.key", "self.value"}, {"output.dense"}),
    "roberta": ({"self.key", "self.value"}, {"output.dense"}),
    "distilbert": ({"attention.k_lin", "attention.v_lin"}, {"ffn.lin2"}),
    "deberta": ({"self.in_proj"}, {"output.dense"}),
    "deberta-v2": ({"self.key_proj", "self.value_proj"}, {"output.dense"}),
    "gpt2": ({"attn.c_attn"}, {"mlp.c_proj"}),
    "t5": (
        {"SelfAttention.k", "SelfAttention.v", "EncDecAttention.k", "EncDecAttention.v"},
        {"DenseReluDense.wo"},
    ),
    "llama": ({"self_attn.k_proj", "self_attn.v_proj"}, {"mlp.down_proj"}),
    "mistral": ({"self_attn.k_proj", "self_attn.v_proj"}, {"mlp.down_proj"}),
    "qwen2": ({"self_attn.k_proj", "self_attn.v_proj"}, {"mlp.down_proj"}),
    "qwen3": ({"self_attn.k_proj", "self_attn.v_proj"}, {"mlp.down_proj"}),
}


@pytest.mark.parametrize("architecture", SCALED)
def test_keys_values_and_the_feed_forward_network_are_scaled_and_nothing_else(
    architecture: str, tiny: Callable[..., Any]
) -> None:
    model = adapters.build("ia3", tiny(architecture))
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, IA3Layer)}
    outputs, inputs = SCALED[architecture]
    for wanted, is_input in ((outputs, False), (inputs, True)):
        found = [name for name, layer in layers.items() if layer.is_feedforward is is_input]
        assert {".".join(name.split(".")[-2:]) for name in found} == wanted
        assert not any("attention.output" in name for name in found)
    assert all(torch.all(layer.ia3_l["default"] == 1) for layer in layers.values())


def test_scaling_the_queries_of_gpt2_adds_no_function(
    tiny: Callable[..., Any], texts: Callable[..., Tensors], stirred: Callable[..., nn.Module]
) -> None:
    model, batch = stirred(adapters.build("ia3", tiny("gpt2")).double()), texts("gpt2")
    before = model(**batch).logits
    with torch.no_grad():
        for name, scale in model.named_parameters():
            if "c_attn.ia3_l" in name:
                queries, keys, _ = scale.chunk(3)
                keys.mul_(queries)
                queries.fill_(1)
    torch.testing.assert_close(model(**batch).logits, before, atol=1e-12, rtol=0)


def test_targets_by_hand_replace_ours_and_come_together() -> None:
    made: Any = configure("mamba", None, target_modules=["in_proj"], feedforward_modules=[])
    assert (made.target_modules, made.exclude_modules) == ({"in_proj"}, None)
    with pytest.raises(ConfigurationError, match="feedforward_modules alike"):
        configure("bert", None, target_modules=["key"])


def test_an_unknown_architecture_says_how_to_give_targets_by_hand() -> None:
    with pytest.raises(ConfigurationError, match=r"model_type=mamba .*feedforward_modules="):
        configure("mamba", "SEQ_CLS")
