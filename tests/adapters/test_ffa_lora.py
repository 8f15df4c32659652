import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PeftType, get_peft_model
from torch import nn

from dpft import adapters
from dpft.adapters import ffa_lora
from dpft.adapters.ffa_lora import FfaLoraConfig, configure
from dpft.errors import ConfigurationError
from dpft.inheritance import Inheritance
from dpft.training import FitOptions, _with_adapter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tensors = Mapping[str, torch.Tensor]


@pytest.fixture
def bert(tiny: Callable[..., Any]) -> Any:
    return adapters.build("ffa_lora", tiny("bert"), r=2)


def factors(model: nn.Module, factor: str, adapter: str = "default") -> dict[str, nn.Parameter]:
    end = f".lora_{factor}.{adapter}.weight"
    return {name: p for name, p in model.named_parameters() if name.endswith(end)}


def is_frozen(model: nn.Module, adapter: str = "default") -> bool:
    first, second = factors(model, "A", adapter).values(), factors(model, "B", adapter).values()
    assert first
    assert all(parameter.requires_grad for parameter in second)
    return not any(parameter.requires_grad for parameter in first)


def test_the_second_factor_and_the_head_are_trained_and_nothing_else(bert: Any) -> None:
    trained = [name for name, parameter in bert.named_parameters() if parameter.requires_grad]
    assert is_frozen(bert)
    assert all(".lora_B." in name or "classifier.modules_to_save" in name for name in trained)
    assert not any(parameter.any() for parameter in factors(bert, "B").values())


def test_the_first_factor_depends_on_the_seed_and_the_layer_alone(tiny: Callable[..., Any]) -> None:
    def drawn(seed: int, *targets: str) -> dict[str, nn.Parameter]:
        torch.manual_seed(torch.seed() % 2**32)  # whatever torch's own generator is at
        options = {"seed": seed, "target_modules": list(targets)}
        return factors(adapters.build("ffa_lora", tiny("bert"), **options), "A")

    one, other = drawn(0, "query"), drawn(0, "value", "query")
    assert all(torch.equal(one[name], other[name]) for name in one)
    values = [tuple(each.flatten().tolist()) for each in other.values()]
    assert len(set(values)) == len(values) == 4  # no two layers alike
    assert not any(torch.equal(one[name], each) for name, each in drawn(1, "query").items())


def test_the_first_factor_is_uniform_as_peft_draws_it(tiny: Callable[..., Any]) -> None:
    for weight in factors(adapters.build("ffa_lora", tiny("bert"), r=200), "A").values():
        bound = weight.shape[1] ** -0.5
        assert 0.99 * bound < float(weight.max()) <= bound
        assert -bound <= float(weight.min()) < -0.99 * bound


def test_the_first_factor_stays_frozen_whatever_peft_sets(bert: Any) -> None:
    bert.add_adapter("other", configure("bert", "SEQ_CLS", r=2, seed=1))
    for name in ("other", "default", "other"):
        bert.set_adapter(name)
        assert is_frozen(bert, name)
    bert.set_requires_grad("other", requires_grad=True)
    with bert.disable_adapter():
        pass
    assert is_frozen(bert, "other")
    bert.delete_adapter("default")
    assert is_frozen(copy.deepcopy(bert), "other")


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_it_is_trained_further_with_its_first_factor_frozen(
    low_cpu_mem_usage: bool,
    bert: Any,
    tiny: Callable[..., Any],
    stirred: Callable[..., nn.Module],
    tmp_path: Path,
) -> None:
    stirred(bert)
    bert.save_pretrained(str(tmp_path))
    settings: dict[str, Any] = {
        "config": ffa_lora.read(tmp_path),
        "low_cpu_mem_usage": low_cpu_mem_usage,
    }
    again: Any = PeftModel.from_pretrained(
        tiny("bert"), str(tmp_path), is_trainable=True, **settings
    )
    assert is_frozen(again)
    for name, parameter in bert.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_plain_peft_reads_an_ordinary_lora_that_computes_the_same(
    bert: Any,
    tiny: Callable[..., Any],
    stirred: Callable[..., nn.Module],
    texts: Callable[..., Tensors],
    tmp_path: Path,
) -> None:
    stirred(bert)
    bert.save_pretrained(str(tmp_path))
    plain: Any = PeftModel.from_pretrained(tiny("bert"), str(tmp_path))
    assert type(plain.peft_config["default"]) is LoraConfig
    assert plain.peft_config["default"].peft_type is PeftType.LORA
    batch = texts("bert")
    assert torch.equal(plain(**batch).logits, bert(**batch).logits)


def test_a_process_without_the_library_reads_it(
    bert: Any, tmp_path: Path, beside_transformers: Callable[..., Any]
) -> None:
    bert.save_pretrained(tmp_path)
    code = (
        "import sys; from peft import PeftConfig;"
        "assert type(PeftConfig.from_pretrained(sys.argv[1])).__name__ == 'LoraConfig';"
        "assert 'dpft' not in sys.modules"
    )
    beside_transformers(code, tmp_path).check_returncode()


@pytest.mark.parametrize("task_type", ["SEQ_CLS", None])
def test_the_seed_is_read_back_from_the_file(
    task_type: str | None, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    config = configure("bert", task_type, r=2, seed=5)
    get_peft_model(tiny("bert"), config).save_pretrained(str(tmp_path))
    again: Any = ffa_lora.read(tmp_path)
    assert (again.seed, again.r, again.target_modules) == (5, 2, {"query", "value"})


def test_another_adapter_is_not_read(tiny: Callable[..., Any], tmp_path: Path) -> None:
    adapters.build("lora", tiny("bert")).save_pretrained(str(tmp_path))
    with pytest.raises(ConfigurationError, match="to hold an FFA-LoRA"):
        ffa_lora.read(tmp_path)


def test_one_whose_first_factor_would_be_trained_is_refused(
    bert: Any, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    bert.save_pretrained(str(tmp_path))
    thawed = PeftModel.from_pretrained(tiny("bert"), str(tmp_path), is_trainable=True)
    with pytest.raises(ConfigurationError, match=r"adapter=default to be frozen.*ffa_lora\.read"):
        adapters.refuse_unfit(thawed)
    with pytest.raises(ConfigurationError, match="adapter=default to be frozen"):
        # how `dpft.fit` takes a model as it is
        _with_adapter(thawed, None, FitOptions(), Inheritance())
    native = tiny("bert")
    native.load_adapter(str(tmp_path))
    native.set_adapter("default")
    with pytest.raises(ConfigurationError, match="adapter=default to be frozen"):
        adapters.refuse_unfit(native)
    adapters.refuse_unfit(PeftModel.from_pretrained(tiny("bert"), str(tmp_path)))
    adapters.refuse_unfit(bert)
    adapters.refuse_unfit(adapters.build("lora", tiny("bert")))
    adapters.refuse_unfit(tiny("bert"))


@pytest.mark.parametrize(
    "options", [{"init_lora_weights": "pissa"}, {"use_dora": True}, {"seed": -1}]
)
def test_what_would_break_linearity_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="adapter=ffa_lora"):
        configure("bert", "SEQ_CLS", **options)


def test_layers_that_start_otherwise_are_refused(tiny: Callable[..., Any]) -> None:
    model = tiny("bert")
    names = [name for name, _ in model.named_modules()]
    for targets in (["word_embeddings"], ["query", "word_embeddings"], ["query", "LayerNorm"]):
        with pytest.raises(ConfigurationError, match=r"linear layers, got .*(word_emb|LayerNorm)"):
            adapters.build("ffa_lora", model, target_modules=targets)
    parameters = ["encoder.layer.0.output.dense.weight"]
    with pytest.raises(ConfigurationError, match=r"linear layers, got .*dense\.weight"):
        adapters.build("ffa_lora", model, target_parameters=parameters)
    assert [name for name, _ in model.named_modules()] == names
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_parts_of_an_adapter_are_no_target_of_the_next(tiny: Callable[..., Any]) -> None:
    made = adapters.build("ffa_lora", tiny("bert"), target_modules=r".*query(\..*)?")
    made.add_adapter("other", made.peft_config["default"])
    assert len(factors(made, "A", "other")) == 2


def test_it_does_not_mix_with_a_lora_whose_first_factor_is_trained(bert: Any) -> None:
    with pytest.raises(ValueError, match="Cannot combine"):
        bert.add_adapter("plain", LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))


def test_sums_keep_the_rank(tiny: Callable[..., Any], stirred: Callable[..., nn.Module]) -> None:
    model = adapters.build("ffa_lora", tiny("bert"), r=2)
    model.add_adapter("other", configure("bert", "SEQ_CLS", r=2))
    for one, other in zip(
        factors(model, "A").values(), factors(model, "A", "other").values(), strict=True
    ):
        assert torch.equal(one, other)  # the same seed, hence B + B' over the same A


def test_the_configuration_in_memory_is_its_own_and_on_disk_a_lora() -> None:
    made: Any = configure("bert", "SEQ_CLS")
    assert isinstance(made, FfaLoraConfig)
    assert made.peft_type == "DPFT_FFA_LORA"
    plain: Any = LoraConfig()
    assert made.to_dict().keys() == plain.to_dict().keys()
