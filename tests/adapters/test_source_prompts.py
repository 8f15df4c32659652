"""The sources of ATTEMPT: where they come from, how they change, and that they stay frozen."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft import PeftModel, PromptTuningConfig, get_peft_model
from torch import nn

import dpft
from dpft import adapters
from dpft.adapters.attempt import AttemptConfig
from dpft.adapters.source_prompts import read_prompt
from dpft.errors import ConfigurationError
from dpft.losses import CausalLanguageModelling

pytestmark = [
    pytest.mark.usefixtures("norms_in_double"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

Adapted = Callable[..., Any]
Build = Callable[..., Any]
Outputs = Callable[..., torch.Tensor]
Parts = Callable[[nn.Module], dict[str, torch.Tensor]]
Tiny = Callable[..., transformers.PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]
LENGTH, WIDTH = 3, 16  # as `adapted` and `tiny` have them


@pytest.fixture
def tuned(tiny: Tiny, tmp_path: Path) -> Callable[..., str]:
    """Return a maker of folders as peft's prompt tuning saves them: (name, length)."""

    def make(name: str, length: int = LENGTH) -> str:
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length)
        model: Any = get_peft_model(tiny("gpt2"), config)
        generator = torch.Generator().manual_seed(len(name))
        prompt = model.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            prompt.copy_(torch.rand(prompt.shape, generator=generator))
        model.save_pretrained(str(tmp_path / name))
        return str(tmp_path / name)

    return make


def test_sources_are_what_prompt_tuning_saved(
    tiny: Tiny,
    tuned: Callable[..., str],
    texts: Texts,
    tmp_path: Path,
    build: Build,
    parts: Parts,
    without_cache: Outputs,
) -> None:
    folders = [tuned("sst2"), tuned("squad")]
    options: dict[str, Any] = {"num_virtual_tokens": LENGTH, "sources": folders}
    model = build(tiny("gpt2"), **options, num_random_sources=1)
    sources = parts(model)["sources.weight"]
    assert not sources.requires_grad
    for row, folder in enumerate(folders):
        saved = peft.utils.load_peft_weights(folder)["prompt_embeddings"]
        assert torch.equal(sources[row], saved)
    assert model.peft_config["default"].source_names == ["sst2", "squad", "vocabulary-0"]
    batch, expected = texts("gpt2"), without_cache(model, texts("gpt2"))
    model.save_pretrained(str(tmp_path / "out"))
    for folder in folders:
        (Path(folder) / "adapter_model.safetensors").unlink()
    assert str(tmp_path) not in (tmp_path / "out" / "adapter_config.json").read_text()
    loaded = PeftModel.from_pretrained(tiny("gpt2"), str(tmp_path / "out"))
    assert torch.equal(without_cache(loaded, batch), expected)


def test_a_configuration_can_be_used_twice(
    tiny: Tiny, tuned: Callable[..., str], parts: Parts
) -> None:
    config = AttemptConfig(num_virtual_tokens=LENGTH, sources=[tuned("sst2")])
    one: Any = get_peft_model(tiny("gpt2"), config)
    two: Any = get_peft_model(tiny("gpt2"), config)
    assert torch.equal(parts(one)["sources.weight"], parts(two)["sources.weight"])
    one.add_source(torch.ones(LENGTH, WIDTH), "ones")
    assert two.peft_config["default"].source_names == ["sst2"]


def test_sources_of_a_run_are_named_after_the_run(tuned: Callable[..., str]) -> None:
    adapter = Path(tuned("mnli/adapter"))
    (adapter.parent / "certificate.json").write_text("{}")
    for folder in (adapter, adapter.parent):
        config = AttemptConfig(sources=[str(folder)])
        assert config.to_dict()["sources"] == ["mnli"]
        assert read_prompt(folder, LENGTH, WIDTH).shape == (LENGTH, WIDTH)


def test_all_sources_that_do_not_fit_are_named(
    tiny: Tiny, tuned: Callable[..., str], build: Build
) -> None:
    long, missing = tuned("long", LENGTH + 1), tuned("missing")
    (Path(missing) / "adapter_model.safetensors").unlink()
    broken, foreign = Path(tuned("broken")), Path(tuned("foreign"))
    (broken / "adapter_model.safetensors").write_bytes(b"no tensors")
    adapters.build("lora", tiny("gpt2")).save_pretrained(str(foreign))
    sources = [long, missing, str(broken), str(foreign)]
    with pytest.raises(ConfigurationError) as error:
        build(tiny("gpt2"), num_virtual_tokens=LENGTH, sources=sources)
    one, two, three, four = error.value.messages
    assert "source=long of shape [4, 16] to have shape [3, 16]" in one
    assert "missing to hold adapter_model.safetensors" in two
    assert "to hold prompt_embeddings" in three
    assert "to hold prompt_embeddings" in four


def test_a_source_that_is_not_finite_is_refused(tuned: Callable[..., str]) -> None:
    from safetensors.torch import save_file

    folder = Path(tuned("nan"))
    prompt = torch.full((LENGTH, WIDTH), math.nan)
    save_file({"prompt_embeddings": prompt}, folder / "adapter_model.safetensors")
    with pytest.raises(ConfigurationError, match="source=nan to be finite"):
        read_prompt(folder, LENGTH, WIDTH)


def test_sources_are_added_and_removed_and_all_else_stays(
    adapted: Adapted,
    tuned: Callable[..., str],
    texts: Texts,
    tiny: Tiny,
    parts: Parts,
    without_cache: Outputs,
) -> None:
    model, batch = adapted("gpt2"), texts("gpt2")
    before = {name: tensor.clone() for name, tensor in parts(model).items()}
    expected = without_cache(model, batch)
    model.add_source(tuned("sst2"))
    model.add_source(torch.ones(LENGTH, WIDTH), "ones")
    after = parts(model)
    assert not after["sources.weight"].requires_grad
    assert torch.equal(after["sources.weight"][:4], before["sources.weight"])
    assert torch.equal(after["sources.weight"][5], torch.ones(LENGTH, WIDTH).double())
    assert all(torch.equal(after[name], before[name]) for name in before if "sources" not in name)
    assert not torch.equal(without_cache(model, batch), expected)
    names = [*(f"vocabulary-{index}" for index in range(4)), "sst2", "ones"]
    assert model.peft_config["default"].source_names == names
    for name in ("sst2", "ones"):
        model.remove_source(name)
    assert torch.equal(without_cache(model, batch), expected)
    model.remove_source("vocabulary-1")
    assert torch.equal(parts(model)["sources.weight"], before["sources.weight"][[0, 2, 3]])


def test_a_changed_set_of_sources_is_saved_and_loaded(
    adapted: Adapted, texts: Texts, tiny: Tiny, tmp_path: Path, without_cache: Outputs
) -> None:
    model, batch = adapted("gpt2"), texts("gpt2")
    model.remove_source("vocabulary-0")
    model.add_source(torch.ones(LENGTH, WIDTH), "ones")
    model.add_source(torch.zeros(LENGTH, WIDTH), "zeros")
    model.save_pretrained(str(tmp_path))
    loaded: Any = PeftModel.from_pretrained(tiny("gpt2").double(), str(tmp_path))
    assert torch.equal(without_cache(loaded, batch), without_cache(model, batch))
    assert loaded.peft_config["default"].source_names == model.peft_config["default"].source_names


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model.add_source(torch.ones(LENGTH, 8), "x"), r"to have shape \[3, 16\]"),
        (lambda model: model.add_source(torch.ones(2, WIDTH), "x"), r"to have shape \[3, 16\]"),
        (lambda model: model.add_source(torch.ones(LENGTH, WIDTH)), "name=None"),
        (lambda model: model.add_source(torch.ones(3, WIDTH), "vocabulary-0"), "to occur once"),
        (lambda model: model.remove_source("sst2"), "source=sst2"),
        (lambda model: model.remove_source("vocabulary-0", "other"), "adapter=other"),
    ],
)
def test_changes_of_sources_that_cannot_be_are_refused(
    change: Callable[[Any], None], reason: str, adapted: Adapted, parts: Parts
) -> None:
    model = adapted("gpt2")
    before = parts(model)["sources.weight"].clone()
    with pytest.raises(ConfigurationError, match=reason):
        change(model)
    assert torch.equal(parts(model)["sources.weight"], before)
    for name in ("vocabulary-0", "vocabulary-1", "vocabulary-2"):
        model.remove_source(name)
    with pytest.raises(ConfigurationError, match="source=vocabulary-3 to be one of several"):
        model.remove_source("vocabulary-3")


def test_a_saved_configuration_without_its_checkpoint_is_refused_when_called(
    adapted: Adapted, texts: Texts, tiny: Tiny, tmp_path: Path
) -> None:
    adapted("gpt2").save_pretrained(str(tmp_path))
    config = AttemptConfig.from_pretrained(str(tmp_path))
    model = get_peft_model(tiny("gpt2"), config)
    with pytest.raises(ConfigurationError, match="sources of adapter=default to be loaded"):
        model(**texts("gpt2"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_switches_frozen_sources_on(tiny: Tiny, dtype: torch.dtype, build: Build) -> None:
    base: Any = tiny("gpt2")
    model = build(base.to(dtype), num_virtual_tokens=3)

    def trained() -> set[str]:
        names = [name for name, each in model.named_parameters() if each.requires_grad]
        return {name.split(".dpft_attempt_")[1] for name in names}

    expected = trained()
    assert len(expected) == 5
    assert not any("sources" in name for name in expected)
    model.set_adapter("default")
    assert trained() == expected
    model.set_requires_grad("default", requires_grad=True)
    assert trained() == expected
    with model.disable_adapter():
        assert not trained()
    assert trained() == expected
    model.add_adapter("other", AttemptConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert trained() == expected
    model.set_adapter("other")
    assert trained() == {name.replace("default", "other") for name in expected}
    model.base_model._cast_adapter_dtype("other")
    assert trained() == {name.replace("default", "other") for name in expected}


def test_trained_sources_are_switched_like_the_rest(tiny: Tiny, build: Build, parts: Parts) -> None:
    options: dict[str, Any] = {"num_virtual_tokens": 3, "train_sources": True}
    model = build(tiny("gpt2"), **options)
    assert parts(model)["sources.weight"].requires_grad
    model.add_source(torch.ones(3, WIDTH), "ones")
    assert parts(model)["sources.weight"].requires_grad
    model.base_model.disable_adapter_layers()
    assert not parts(model)["sources.weight"].requires_grad


def test_training_over_sources_that_may_be_private_is_refused(
    tiny: Tiny, tuned: Callable[..., str], tmp_path: Path, build: Build
) -> None:
    run, other = Path(tuned("mnli/adapter")).parent, tuned("sst2")
    (run / "certificate.json").write_text("{}")
    settings = {"num_virtual_tokens": LENGTH, "public_sources": ["sst2", "mnli"]}

    def made(*sources: str | Path) -> Any:
        return build(tiny("gpt2"), sources=[str(source) for source in sources], **settings)

    public, later, certified = made(other), made(other), made(other, run)
    adapters.refuse_unfit(public)
    public.add_source(torch.ones(LENGTH, WIDTH), "ones", public=True)
    adapters.refuse_unfit(public)
    later.add_source(run, public=True)
    certified.save_pretrained(str(tmp_path / "out"))
    loaded = PeftModel.from_pretrained(tiny("gpt2"), str(tmp_path / "out"))
    for each in (later, certified, loaded):
        with pytest.raises(ConfigurationError, match="sources=mnli to be public"):
            adapters.refuse_unfit(each)
    undeclared = build(tiny("gpt2"), num_virtual_tokens=LENGTH, sources=[other])
    public.add_source(torch.ones(LENGTH, WIDTH), "tensor")
    for each, name in ((undeclared, "sst2"), (public, "tensor")):
        with pytest.raises(ConfigurationError, match=f"sources={name} to be public"):
            adapters.refuse_unfit(each)


def test_an_own_loop_refuses_them_too(tiny: Tiny, tuned: Callable[..., str], build: Build) -> None:
    model = build(tiny("gpt2"), num_virtual_tokens=LENGTH, sources=[tuned("sst2")])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=2, steps=1)
    loss = CausalLanguageModelling()
    with pytest.raises(ConfigurationError, match="sources=sst2 to be public"):
        dpft.PrivateStep(model, torch.optim.SGD(trained, lr=0.1), privacy, loss)
