import subprocess
import sys

import pytest
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from dpft import adapters
from dpft.adapters.lora import configure
from dpft.adapters.registry import AdapterName, register
from dpft.errors import ConfigurationError

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
