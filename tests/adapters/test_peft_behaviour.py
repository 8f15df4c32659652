"""What every adapter method owes: to behave in peft and transformers as a built-in method does.

A method joins by one line in `CASES`.
"""

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft import mapping as tables
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from dpft import adapters
from dpft.adapters.targets import task_type_of
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@dataclass(frozen=True)
class Case:
    """A method, and what it can do."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    merges: bool = False  # its change can be folded into the weights
    wraps: bool = True  # it wraps modules; prompt learning of peft does not
    injects: bool = True  # transformers' own add_adapter takes it
    saves_frozen: bool = False  # the file holds parameters that are not trained
    reads_as: str | None = None  # the method that peft takes its file for, if another


CASES = {
    "attempt": Case(
        "attempt",
        {"num_virtual_tokens": 3, "bottleneck": 5, "temperature": 4.0},
        saves_frozen=True,
    ),
    "bottleneck": Case("bottleneck", {"reduction_factor": 4}),
    "pfeiffer": Case(
        "bottleneck",
        {"placement": "pfeiffer", "reduction_factor": 4, "ln_before": True, "ln_after": True},
    ),
    "compacter": Case("compacter", {"reduction_factor": 4}, injects=False),
    "compacter_own_rules": Case(
        "compacter", {"reduction_factor": 4, "shared_rule": False}, injects=False
    ),
    "ffa_lora": Case("ffa_lora", {"r": 2}, merges=True, saves_frozen=True, reads_as="lora"),
    "ia3": Case("ia3", merges=True),
    "lora": Case("lora", {"r": 2}, merges=True),
}
ARCHITECTURES = ("bert", "gpt2", "t5", "llama")
AUTO: dict[str, Any] = {
    "bert": peft.AutoPeftModelForSequenceClassification,
    "gpt2": peft.AutoPeftModelForCausalLM,
    "t5": peft.AutoPeftModelForSeq2SeqLM,
    "llama": peft.AutoPeftModelForCausalLM,
}
NAME = "zebra"  # occurs in no other name

Tiny = Callable[..., PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]
Stirred = Callable[[nn.Module], nn.Module]


class Bench:
    """One method on one architecture: bare models, adapted models and their outputs."""

    def __init__(
        self, case: Case, architecture: str, tiny: Tiny, texts: Texts, stirred: Stirred
    ) -> None:
        self.case, self.architecture = case, architecture
        self.batch = texts(architecture)
        self.stirred, self._bare = stirred, tiny(architecture)

    def base(self) -> Any:
        torch.manual_seed(1)  # what is added to it begins alike, too
        return copy.deepcopy(self._bare)

    def config(self, **options: Any) -> PeftConfig:
        given, bare = dict(self.case.options) | options, self._bare
        return adapters.config(self.case.method, bare.config, task_type_of(bare), **given)

    def adapted(self, name: str = NAME, **options: Any) -> PeftModel:
        model = get_peft_model(self.base(), self.config(**options), adapter_name=name)
        assert isinstance(self.stirred(model), PeftModel)
        return model.eval()

    def with_second(self) -> PeftModel:
        model = self.adapted()
        model.add_adapter("second", self.config())
        model.set_adapter("second")
        return self.stirred(self.stirred(model))  # type: ignore[return-value]  # the same model

    def outputs(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            logits = model.eval()(**self.batch).logits
        assert isinstance(logits, torch.Tensor)
        return logits

    def saved(self, model: PeftModel, folder: Path) -> Path:
        model.save_pretrained(str(folder))
        return folder


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CASES)
def bench(
    request: pytest.FixtureRequest, architecture: str, tiny: Tiny, texts: Texts, stirred: Stirred
) -> Bench:
    return Bench(CASES[request.param], architecture, tiny, texts, stirred)


@pytest.fixture(params=[name for name, case in CASES.items() if case.wraps])
def wrapping(
    request: pytest.FixtureRequest, architecture: str, tiny: Tiny, texts: Texts, stirred: Stirred
) -> Bench:
    return Bench(CASES[request.param], architecture, tiny, texts, stirred)


@pytest.fixture(autouse=True)
def _no_model_card(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rendering it takes longer than everything else in a test.
    monkeypatch.setattr(PeftModel, "create_or_update_model_card", lambda *_: None)


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one, other)


def test_adapter_and_head_are_trainable_and_nothing_else(bench: Bench) -> None:
    model = adapters.build(bench.case.method, bench.base(), **bench.case.options)
    kind: Any = model.peft_config["default"].peft_type
    prefix = tables.PEFT_TYPE_TO_PREFIX_MAPPING.get(kind, "prompt_encoder.")
    heads = {name for name in trainable(model) if ".modules_to_save." in name}
    assert bool(heads) == (bench.architecture == "bert")
    rest = trainable(model) - heads
    assert rest
    assert all(prefix in name for name in rest)


def test_adapter_counts_and_disabling_gives_the_base(bench: Bench) -> None:
    expected, model = bench.outputs(bench.base()), bench.adapted()
    assert not equal(bench.outputs(model)[:, -1:], expected[:, -1:])
    with model.disable_adapter():
        assert equal(bench.outputs(model), expected)
    assert not equal(bench.outputs(model)[:, -1:], expected[:, -1:])


@pytest.mark.parametrize(
    ("low_cpu_mem_usage", "is_trainable"),
    [(False, False), (True, False), (True, True)],
    ids=["plain", "low_memory", "low_memory_trainable"],
)
def test_saved_and_loaded_outputs_are_equal_bit_by_bit(
    bench: Bench, tmp_path: Path, *, low_cpu_mem_usage: bool, is_trainable: bool
) -> None:
    model = bench.adapted(name="default")
    loaded = PeftModel.from_pretrained(
        bench.base(),
        str(bench.saved(model, tmp_path)),
        low_cpu_mem_usage=low_cpu_mem_usage,
        is_trainable=is_trainable,
    )
    assert equal(bench.outputs(loaded), bench.outputs(model))
    if bench.case.reads_as is None or not is_trainable:
        assert trainable(loaded) == (trainable(model) if is_trainable else set())


def test_configuration_is_read_back(bench: Bench, tmp_path: Path) -> None:
    model = bench.adapted()
    read = PeftConfig.from_pretrained(str(bench.saved(model, tmp_path / "x") / NAME))
    config = model.peft_config[NAME]
    known = adapters.config(bench.case.reads_as or bench.case.method, "bert", "SEQ_CLS")
    assert type(read) is type(known)
    expected = config.to_dict() | {"inference_mode": True}
    assert read.to_dict() == expected | {"auto_mapping": read.auto_mapping}


def test_no_name_of_an_adapter_enters_the_file(bench: Bench, tmp_path: Path) -> None:
    model = bench.adapted()
    file = bench.saved(model, tmp_path) / NAME / "adapter_model.safetensors"
    tensors = load_file(file)
    assert tensors
    assert not any(NAME in key for key in tensors)
    if bench.case.wraps and not bench.case.saves_frozen:
        assert sum(each.numel() for each in tensors.values()) == sum(
            each.numel() for each in model.parameters() if each.requires_grad
        )


def test_an_adapter_loads_under_another_name(bench: Bench, tmp_path: Path) -> None:
    model = bench.adapted()
    folder = bench.saved(model, tmp_path) / NAME
    loaded = PeftModel.from_pretrained(bench.base(), str(folder), adapter_name="other")
    assert equal(bench.outputs(loaded), bench.outputs(model))


def test_adapters_are_added_switched_and_deleted(wrapping: Bench) -> None:
    bench, model = wrapping, wrapping.adapted()
    first, names = bench.outputs(model), trainable(model)
    model.add_adapter("second", bench.config())
    assert equal(bench.outputs(model), first)
    assert trainable(model) == names
    model.set_adapter("second")
    assert trainable(model) == {name.replace(NAME, "second") for name in names}
    bench.stirred(bench.stirred(model))  # once would make it the first
    assert not equal(bench.outputs(model), first)
    model.set_adapter(NAME)
    assert equal(bench.outputs(model), first)
    model.delete_adapter("second")
    assert equal(bench.outputs(model), first)
    assert not any("second" in name for name in model.state_dict())


@pytest.mark.filterwarnings("ignore:Adapter .* was active:UserWarning")
def test_deleting_the_active_adapter_leaves_the_other(wrapping: Bench) -> None:
    bench, first = wrapping, wrapping.outputs(wrapping.adapted())
    model = bench.with_second()
    assert not equal(bench.outputs(model), first)
    model.delete_adapter("second")
    assert equal(bench.outputs(model), first)
    assert trainable(model) == trainable(bench.adapted())


def test_two_adapters_are_saved_and_loaded(wrapping: Bench, tmp_path: Path) -> None:
    bench, model = wrapping, wrapping.with_second()
    second = bench.outputs(model)
    model.set_adapter(NAME)
    first = bench.outputs(model)
    bench.saved(model, tmp_path)
    loaded = PeftModel.from_pretrained(bench.base(), str(tmp_path / NAME), adapter_name="one")
    loaded.load_adapter(str(tmp_path / "second"), adapter_name="two")
    assert equal(bench.outputs(loaded), first)
    loaded.set_adapter("two")
    assert equal(bench.outputs(loaded), second)


def test_merging_is_right_or_refused_and_leaves_the_model_whole(wrapping: Bench) -> None:
    bench, model = wrapping, wrapping.adapted()
    expected, modules = bench.outputs(model), [name for name, _ in model.named_modules()]
    if bench.case.merges:
        merged = bench.outputs(model.merge_and_unload())
        torch.testing.assert_close(merged, expected)
        return
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ConfigurationError, match="Expected no merge"):
            merge()
        assert [name for name, _ in model.named_modules()] == modules
        assert equal(bench.outputs(model), expected)
    model.unmerge_adapter()
    assert equal(bench.outputs(model), expected)


def test_unloading_gives_the_base_back(wrapping: Bench) -> None:
    base, model = wrapping.base(), wrapping.adapted()
    bare = model.unload()
    assert type(bare) is type(base)
    assert [name for name, _ in bare.named_modules()] == [name for name, _ in base.named_modules()]
    head = {"classifier.weight", "classifier.bias"}  # as trained
    for name, tensor in base.state_dict().items():
        assert equal(bare.state_dict()[name], tensor) == (name not in head), name


def unpickled(model: PeftModel) -> PeftModel:
    twin = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own
    assert isinstance(twin, PeftModel)
    return twin


@pytest.mark.parametrize("twin", [copy.deepcopy, unpickled])
def test_copies_are_equal_and_independent(
    bench: Bench, twin: Callable[[PeftModel], PeftModel]
) -> None:
    model = bench.adapted()
    expected, other = bench.outputs(model), twin(model)
    assert equal(bench.outputs(other), expected)
    assert trainable(other) == trainable(model)
    bench.stirred(other)
    assert not equal(bench.outputs(other), expected)
    assert equal(bench.outputs(model), expected)
    with other.disable_adapter():
        assert equal(bench.outputs(other), bench.outputs(bench.base()))


def test_a_base_in_half_precision_has_adapters_in_full(bench: Bench, tmp_path: Path) -> None:
    base = bench.base().to(torch.bfloat16)
    model = get_peft_model(base, bench.config())
    bench.stirred(model)
    kinds = {p.dtype for n, p in model.named_parameters() if p.requires_grad and "modules" not in n}
    assert kinds == {torch.float32}
    outputs = bench.outputs(model)
    assert outputs.dtype == torch.bfloat16
    assert bool(outputs.isfinite().all())
    folder = str(bench.saved(model, tmp_path))
    loaded = PeftModel.from_pretrained(bench.base().to(torch.bfloat16), folder)
    assert equal(bench.outputs(loaded), outputs)


@pytest.mark.parametrize("architecture", ["llama"], indirect=True)
def test_a_head_asked_for_is_trained_saved_and_loaded(wrapping: Bench, tmp_path: Path) -> None:
    model = wrapping.adapted(name="default", modules_to_save=["lm_head"])
    assert any(name.endswith("lm_head.modules_to_save.default.weight") for name in trainable(model))
    folder = str(wrapping.saved(model, tmp_path))
    loaded = PeftModel.from_pretrained(wrapping.base(), folder)
    assert equal(wrapping.outputs(loaded), wrapping.outputs(model))


def test_auto_classes_find_base_and_adapter(bench: Bench, tmp_path: Path) -> None:
    bench.base().save_pretrained(tmp_path / "base")
    model = bench.adapted(name="default")
    model.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    folder = str(bench.saved(model, tmp_path / "adapter"))
    settings = {"num_labels": 3} if bench.architecture == "bert" else {}
    loaded = AUTO[bench.architecture].from_pretrained(folder, **settings)
    torch.testing.assert_close(bench.outputs(loaded), bench.outputs(model))


def test_transformers_adds_saves_and_loads_it_alike(wrapping: Bench, tmp_path: Path) -> None:
    bench, model = wrapping, wrapping.base()
    if not bench.case.injects:
        with pytest.raises(ValueError, match="shared state"):
            model.add_adapter(bench.config(), adapter_name=NAME)
        return
    head = ["classifier"] if bench.architecture == "bert" else None  # PeftModel adds it by itself
    model.add_adapter(bench.config(modules_to_save=head), adapter_name=NAME)
    bench.stirred(model)
    expected = bench.outputs(model)
    assert equal(expected, bench.outputs(bench.adapted()))
    model.save_pretrained(tmp_path)
    loaded = bench.base()
    loaded.load_adapter(str(tmp_path))
    assert equal(bench.outputs(loaded), expected)
    model.disable_adapters()
    assert equal(bench.outputs(model), bench.outputs(bench.base()))
    model.enable_adapters()
    model.delete_adapter(NAME)
    assert not any(name in key for key in model.state_dict() for name in (NAME, "dpft_"))


def test_every_wrapped_module_answers_for_its_base(wrapping: Bench) -> None:
    layers = [m for m in wrapping.adapted().modules() if isinstance(m, BaseTunerLayer)]
    assert layers
    assert not any(layer.merged for layer in layers)
    assert all(layer.active_adapters == [NAME] for layer in layers)
