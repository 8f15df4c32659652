import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from dpft import adapters
from dpft.adapters.bottleneck import BottleneckConfig, BottleneckLayer, configure
from dpft.adapters.tuners import AdapterLayer
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tiny = Callable[..., PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def model(tiny: Tiny) -> PeftModel:
    made = adapters.build("bottleneck", tiny("bert"), reduction_factor=4)
    made.add_adapter("second", configure("bert", "SEQ_CLS", reduction_factor=4))
    return made


def layers(model: nn.Module) -> list[AdapterLayer]:
    return [module for module in model.modules() if isinstance(module, AdapterLayer)]


def test_several_active_adapters_are_refused_and_nothing_changes(model: PeftModel) -> None:
    before = [p.requires_grad for p in model.parameters()]
    tuner: Any = model.base_model
    for refuses in (tuner.set_adapter, layers(model)[0].set_adapter):
        with pytest.raises(ConfigurationError, match="active adapters=default, second to be one"):
            refuses(["default", "second"])
    assert tuner.active_adapters == ["default"]
    assert all(layer.active_adapters == ["default"] for layer in layers(model))
    assert [p.requires_grad for p in model.parameters()] == before
    tuner.set_adapter(["second"])
    assert all(layer.active_adapters == ["second"] for layer in layers(model))


def test_rows_with_adapters_of_their_own_are_refused(model: PeftModel, texts: Texts) -> None:
    names = ["default", "second", "default", "second"]
    with pytest.raises(ConfigurationError, match="adapter_names=None in the call"):
        model(**texts("bert"), adapter_names=names)
    model(**texts("bert"), adapter_names=None)


def test_a_merge_is_refused_by_layers_too(model: PeftModel) -> None:
    with pytest.raises(ConfigurationError, match="Expected no merge of BottleneckLayer"):
        layers(model)[0].merge()
    assert not any(layer.merged_adapters for layer in layers(model))


def test_a_merge_is_refused_before_any_layer_is_asked(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdapterLayer, "merge", lambda *_, **__: pytest.fail("asked"))
    tuner: Any = model.base_model
    for merge in (tuner.merge_and_unload, tuner.merge_adapter):
        with pytest.raises(ConfigurationError, match="Expected no merge of BottleneckModel"):
            merge()


def test_no_conversion_to_lora_is_offered(model: PeftModel) -> None:
    assert model.supports_lora_conversion() is False
    assert not any(layer.supports_lora_conversion() for layer in layers(model))


def test_a_model_left_without_adapters_is_the_base(tiny: Tiny, texts: Texts) -> None:
    batch, base = texts("bert"), tiny("bert")
    expected = base(**batch).logits
    model = adapters.build("bottleneck", tiny("bert"), reduction_factor=4, init_std=1.0)
    assert not torch.equal(model(**batch).logits, expected)
    model.delete_adapter("default")
    bare: Any = model.base_model
    assert torch.equal(bare(**batch).logits, expected)


def test_layers_without_the_active_adapter_do_what_their_base_does(
    tiny: Tiny, texts: Texts
) -> None:
    wide = adapters.build("bottleneck", tiny("gpt2"), reduction_factor=4, init_std=0.5)
    narrow = configure("gpt2", "CAUSAL_LM", init_std=0.5, layers_to_transform=[1])
    alone = copy.deepcopy(wide)
    wide.add_adapter("narrow", narrow)
    wide.set_adapter("narrow")
    first = wide.get_submodule("base_model.model.transformer.h.0.mlp.dropout")
    assert isinstance(first, AdapterLayer)
    hidden = torch.randn(2, 3, 16)
    assert torch.equal(first(hidden), hidden)
    assert not torch.equal(wide(**texts("gpt2")).logits, alone(**texts("gpt2")).logits)


def test_new_adapters_follow_the_model_in_device_and_type(tiny: Tiny) -> None:
    model = adapters.build("bottleneck", tiny("bert"), reduction_factor=4).double()
    model.add_adapter("second", configure("bert", "SEQ_CLS", reduction_factor=4))
    kinds = {p.dtype for n, p in model.named_parameters() if "dpft_" in n and ".second" in n}
    assert kinds == {torch.float64}
    with torch.device("meta"):
        base = tiny("bert")
    model = adapters.build("bottleneck", base, reduction_factor=4)
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_a_wrapped_block_answers_for_its_base(tiny: Tiny) -> None:
    base = tiny("qwen2")
    block: Any = base.get_submodule("model.layers.0")
    block.told = "something"
    model = adapters.build("bottleneck", base, placement="pfeiffer", reduction_factor=4)
    layer: Any = layers(model)[0]
    assert layer.told == "something"
    assert layer.base_layer is block
    assert not hasattr(layer, "weight")
    with pytest.raises(AttributeError, match="untold"):
        _ = layer.untold


def test_only_parameters_of_adapters_enter_the_state(model: PeftModel) -> None:
    extra = {key for key in model.state_dict() if "_place" in key}
    assert not extra


def test_a_module_that_is_no_transformer_is_copied_whole() -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    model = get_peft_model(plain, BottleneckConfig(reduction_factor=2, target_modules=["0"]))
    twin = copy.deepcopy(layers(model)[0])
    hidden = torch.randn(3, 6)
    assert torch.equal(twin(hidden), layers(model)[0](hidden))


def test_parts_of_an_adapter_are_no_target_of_the_next() -> None:
    config = BottleneckConfig(reduction_factor=2, target_modules=r"0(\..*)?")
    model = get_peft_model(nn.Sequential(nn.Linear(6, 8)), config)
    model.add_adapter("second", config)
    assert len(layers(model)) == 1


class Copied(nn.Identity):
    """Has a way of its own to be copied, as compiled modules do."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Copied":
        return self


def test_copying_asks_the_layer_and_not_its_base() -> None:
    layer = BottleneckLayer(Copied(), 4, torch.empty(0))
    twin = copy.deepcopy(layer)
    assert type(twin) is BottleneckLayer
    assert twin.base_layer is layer.base_layer


def test_a_layer_not_yet_filled_has_no_base() -> None:
    empty = BottleneckLayer.__new__(BottleneckLayer)
    with pytest.raises(AttributeError, match="base_layer"):
        _ = empty.told
