import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from peft import LoraConfig, PeftModel
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import dpft
from dpft import adapters
from dpft.adapters.lora import configure
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.targets import task_type_of
from dpft.errors import ConfigurationError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TINY = BertConfig(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
)


def test_importing_adapters_does_not_import_torch_or_peft() -> None:
    code = "import sys, dpft.adapters; sys.exit(bool({'torch', 'peft'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_member_and_its_value_configure_the_same() -> None:
    by_member = adapters.config(AdapterName.LORA, "bert", "SEQ_CLS")
    assert by_member.to_dict() == adapters.config("lora", TINY, "SEQ_CLS").to_dict()


def test_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"adapter=lorra .* Did you mean lora\?"):
        adapters.config("lorra", "bert", "SEQ_CLS")


def test_a_name_is_registered_once() -> None:
    adapters.config("lora", "bert", None)
    with pytest.raises(ConfigurationError, match="adapter=lora to be new"):
        register("lora", configure)


@pytest.mark.parametrize("model_class", [BertForSequenceClassification, BertForTokenClassification])
def test_built_model_trains_the_adapter_and_the_head_and_nothing_else(
    model_class: type[BertForSequenceClassification],
) -> None:
    model = adapters.build("lora", model_class(TINY), r=2)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any("classifier.modules_to_save" in name for name in trainable)
    assert all(".lora_" in name or "classifier.modules_to_save" in name for name in trainable)
    assert sum(".lora_" in name for name in trainable) == 4  # query and value, two factors each


FITTING = [
    (name, architecture)
    for name in AdapterName
    for architecture in ("bert", "roberta", "gpt2", "t5", "llama")
    if not (name is AdapterName.BITFIT and architecture in {"t5", "llama"})
]
NEEDED: dict[AdapterName, dict[str, Any]] = {  # a model 16 wide has nothing left by 32
    AdapterName.COMPACTER: {"reduction_factor": 2}
}


@pytest.mark.parametrize(
    ("name", "architecture"), FITTING, ids=lambda value: str(getattr(value, "value", value))
)
def test_every_method_is_built_without_options(
    name: AdapterName, architecture: str, tiny: Callable[..., Any]
) -> None:
    base = tiny(architecture)
    model = adapters.build(name, base, **NEEDED.get(name, {}))
    assert isinstance(model, PeftModel)
    assert model.peft_config["default"].task_type == task_type_of(base)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("modules_to_save" not in name for name in trained)
    fresh = architecture in {"bert", "roberta"}  # the others' heads are the pretrained ones
    assert any("classifier" in name for name in trained) is fresh


@pytest.mark.parametrize("order", ["peft, dpft.adapters", "dpft.adapters, peft"])
def test_peft_knows_our_methods_in_either_order_of_import(
    order: str, beside_transformers: Callable[..., Any]
) -> None:
    code = (
        f"import {order}; from peft import mapping;"
        "ours = {key for key in mapping.PEFT_TYPE_TO_CONFIG_MAPPING if key.startswith('DPFT_')};"
        "assert {'DPFT_ATTEMPT', 'DPFT_BOTTLENECK', 'DPFT_COMPACTER'} <= ours, ours"
    )
    beside_transformers(code).check_returncode()


@pytest.mark.parametrize("module", ["attempt", "bottleneck", "compacter", "sublayers", "tuners"])
def test_any_module_may_be_the_first_to_be_imported(
    module: str, beside_transformers: Callable[..., Any]
) -> None:
    code = f"import dpft.adapters.{module}, peft; assert peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING"
    beside_transformers(code).check_returncode()


def test_an_adapter_that_finds_no_layer_is_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.*adapter\.target_modules="):
        adapters.build("lora", tiny("bert"), target_modules=["nowhere"])


def test_an_adapter_that_leaves_only_the_head_to_train_is_refused(tiny: Callable[..., Any]) -> None:
    without_biases = LoraConfig(
        task_type="CAUSAL_LM", target_modules="dummy-target-modules", bias="all"
    )
    with pytest.raises(ConfigurationError, match="Nothing but the head would be trained"):
        adapters.add(tiny("llama"), without_biases)


def test_an_unknown_option_is_refused_with_the_nearest(tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean lora_alpha\?"):
        adapters.build("lora", tiny("bert"), lora_alpa=3)


@pytest.mark.parametrize("method", ["ffa_lora", "ia3", "lora"])
@pytest.mark.parametrize(("state", "why"), [("merged", "not merged"), ("disabled", "are enabled")])
def test_merged_and_disabled_adapters_are_not_trained(
    method: str, state: str, why: str, tiny: Callable[..., Any], texts: Any, losses: Any
) -> None:
    model: Any = adapters.build(method, tiny("bert"))
    change = model.merge_adapter if state == "merged" else model.base_model.disable_adapter_layers
    change()
    with pytest.raises(UnsupportedError, match=why):
        dpft.per_record_gradients(model, losses, texts("bert"))
