"""Bases in 8 or 4 bits and activations computed anew leave per-record gradients exact."""

import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import dpft
from dpft import Privacy, adapters
from dpft.engine.attachment import Engine
from dpft.errors import ConfigurationError, UnsupportedError
from dpft.fingerprint import fingerprint, stored_parts
from dpft.losses import CausalLanguageModelling
from dpft.recipes import large_models
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.config.schema import Architecture, QuantisationName
from dpft.recipes.large_models import (
    large_model_problems,
    quantisation_config,
    refuse_wrongly_rounded,
    rounded_weights,
)
from dpft.recipes.models import load, quiet_peft
from dpft.recipes.tasks.traits import TaskKind
from tests.recipes.allocations import saved_bytes

LOSS = CausalLanguageModelling()
LINEAR = 4 * 16 * 16 + 3 * 16 * 32  # entries of one block's linear layers


def save_tokenizer(folder: Path, size: int) -> None:
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))
    made = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1")  # type: ignore[no-untyped-call]  # theirs
    made.save_pretrained(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=23,
        )
    ).save_pretrained(folder)
    save_tokenizer(folder, 23)
    return str(folder)


def adapted(base: str, **fields: Any) -> Any:
    """Return the base as it is loaded with these fields, with LoRA whose factors are not zero."""
    with quiet_peft():
        loaded = load(base, Architecture(**fields), (), 0, TaskKind.TEXT)
        model = adapters.build("lora", loaded.model, r=2)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def records() -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    ids = torch.randint(2, 23, (3, 6))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def alone(model: Any, batch: Mapping[str, torch.Tensor], record: int) -> dict[str, torch.Tensor]:
    """Return one record's gradient by plain autograd."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    losses = LOSS(model, {name: value[record : record + 1] for name, value in batch.items()})
    found = torch.autograd.grad(losses.sum(), list(trained.values()))
    return dict(zip(trained, found, strict=True))


def worst_error(model: Any) -> float:
    """Return the largest error of per-record gradients, as a share of the parameter's largest."""
    raw = dpft.per_record_gradients(model, LOSS, records())
    worst = 0.0
    for record in range(3):
        single = alone(model, records(), record)
        assert raw.keys() == single.keys()
        assert all(grad.abs().max() > 0 for grad in single.values())
        errors = [(raw[k][record] - g).abs().max() / g.abs().max() for k, g in single.items()]
        found = float(torch.stack(errors).max())
        assert found >= 0, "not NaN, which no maximum shows"
        worst = max(worst, found)
    return worst


def stored_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of a model's weights in memory."""
    storages = {}
    for parameter in model.parameters():
        parts, _ = getattr(parameter, "__tensor_flatten__", lambda: ([], None))()
        for part in [getattr(parameter, name) for name in parts] or [parameter]:
            storages[id(part)] = part.numel() * part.element_size()
    return sum(storages.values())


@pytest.mark.slow  # the two libraries take seconds to import
@pytest.mark.parametrize(
    ("quantisation", "library"), [("int8", "torchao"), ("int4", "bitsandbytes")]
)
def test_a_quantised_base_leaves_per_record_gradients_exact(
    base: str, quantisation: str, library: str
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    plain, rounded = adapted(base), adapted(base, quantisation=quantisation)
    assert {p.dtype for p in rounded.parameters() if p.requires_grad} == {torch.float32}
    saved = stored_bytes(plain) - stored_bytes(rounded)
    share = 2 * LINEAR * (4 - {"int8": 1.0, "int4": 0.5}[quantisation])
    assert 0.9 * share < saved <= share, "linear layers are stored in fewer bits"
    assert not torch.equal(LOSS(plain, records()), LOSS(rounded, records())), "and are rounded"
    assert worst_error(rounded) < 1e-5


SIZES = {"vocab_size": 23, "num_hidden_layers": 2, "num_attention_heads": 2}
NARROW = SIZES | {"hidden_size": 64, "intermediate_size": 128}


def gpt2() -> Any:
    config = GPT2Config(n_embd=64, n_layer=2, n_head=2, vocab_size=23, n_positions=32)
    return GPT2LMHeadModel(config)


def roberta() -> Any:
    return RobertaForSequenceClassification(RobertaConfig.from_dict(NARROW))


def t5() -> Any:
    return T5ForConditionalGeneration(T5Config(d_model=64, d_ff=128, num_layers=1, vocab_size=23))


@pytest.mark.parametrize(
    ("made", "kind", "entries"),
    [
        (gpt2, "int4", 2 * (64 * 192 + 64 * 64 + 2 * 64 * 256)),
        (gpt2, "int8", 0),
        (roberta, "int8", 2 * (4 * 64 * 64 + 2 * 64 * 128)),  # not classifier.dense
        (t5, "int4", 12 * 64 * 512 + 2 * 64 * 128),  # T5 wants its wo in float32
    ],
)
def test_what_is_foreseen_to_be_rounded_is_neither_head_nor_unknown(
    made: Any, kind: str, entries: int
) -> None:
    with torch.device("meta"):
        model = made()
    rounded = rounded_weights(model, QuantisationName(kind))
    assert sum(weight.numel() for weight in rounded) == entries
    if kind == "int4" and made is gpt2:
        assert rounded[0].shape == (192, 64), "outputs first"


@pytest.mark.slow  # the two libraries take seconds to import
@pytest.mark.parametrize("made", [gpt2, roberta, t5])
@pytest.mark.parametrize(("kind", "library"), [("int8", "torchao"), ("int4", "bitsandbytes")])
def test_what_is_foreseen_to_be_rounded_is_what_is_rounded(
    made: Any, kind: str, library: str, tmp_path: Path
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    made().save_pretrained(tmp_path)
    save_tokenizer(tmp_path, 23)
    classifies = made is roberta
    task, labels = (TaskKind.CLASSIFICATION, ("a", "b")) if classifies else (TaskKind.TEXT, ())
    pooling: Any = "head" if classifies else "mean"

    def loaded(quantisation: Any) -> Any:
        architecture = Architecture(pooling=pooling, quantisation=quantisation)
        return load(str(tmp_path), architecture, labels, 0, task).model

    foreseen = len(rounded_weights(loaded("none"), QuantisationName(kind)))
    if foreseen == 0:
        with pytest.raises(ConfigurationError, match="Conv1D"):
            loaded(kind)
        return
    found = [name for name, p in loaded(kind).named_parameters() if len(stored_parts(p)) > 1]
    assert len(found) == foreseen


def in_few_bits(layer: torch.nn.Linear) -> None:
    """Store a weight as bitsandbytes does."""
    layer.weight = torch.nn.Parameter(layer.weight.detach(), requires_grad=False)
    layer.weight.quant_state = SimpleNamespace(absmax=torch.ones(1))  # type: ignore[attr-defined]


def test_a_model_of_which_nothing_or_the_output_layer_is_rounded_is_refused() -> None:
    asked = Architecture(quantisation=QuantisationName.INT8)
    model = LlamaForCausalLM(LlamaConfig.from_dict(NARROW))
    with pytest.raises(ConfigurationError, match="quantisation=int8 to round weights of Llama"):
        refuse_wrongly_rounded(model, asked)
    in_few_bits(model.model.layers[0].mlp.up_proj)
    refuse_wrongly_rounded(model, asked)
    in_few_bits(model.lm_head)
    with pytest.raises(ConfigurationError, match="output layer of LlamaForCausalLM"):
        refuse_wrongly_rounded(model, asked)
    refuse_wrongly_rounded(model, Architecture())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "library"), [("int8", "torchao"), ("int4", "bitsandbytes")])
def test_a_rounded_base_is_another_one_and_so_is_one_of_other_scales(
    base: str, kind: str, library: str, tmp_path: Path
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    scaled = LlamaForCausalLM.from_pretrained(base)
    with torch.no_grad():
        scaled.model.layers[0].mlp.up_proj.weight.mul_(2)  # the same numbers in few bits
    scaled.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, 23)

    def digest(folder: str, quantisation: str) -> object:
        plan = Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=10, steps=3).plan(100)
        model = adapted(folder, quantisation=quantisation)
        return fingerprint(model, plan, None, generator="x")["base model"]

    assert digest(base, kind) == digest(base, kind)
    assert len({digest(base, kind), digest(base, "none"), digest(str(tmp_path), kind)}) == 3


def test_activations_computed_anew_leave_the_gradients_as_they_are(base: str) -> None:
    kept, anew = adapted(base), adapted(base, activation_checkpointing=True)
    assert worst_error(anew) < 1e-5
    here, there = (dpft.per_record_gradients(m, LOSS, records()) for m in (kept, anew))
    torch.testing.assert_close(here, there)
    assert saved_bytes(anew, LOSS, records()) < 0.7 * saved_bytes(kept, LOSS, records())


def test_a_base_in_bfloat16_has_adapters_in_float32_and_exact_gradients(base: str) -> None:
    model = adapted(base, dtype="bfloat16")
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert worst_error(model) < 0.03, "activations have eight bits of mantissa"


@pytest.mark.parametrize("library", ["torchao", "bitsandbytes"])
def test_a_library_that_is_not_there_is_named(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_models, "find_spec", lambda _: None)
    kind = {"torchao": "int8", "bitsandbytes": "int4"}[library]
    settings = compose_settings([f"architecture.quantisation={kind}"])
    (problem,) = large_model_problems(settings)
    assert f"Expected {library} to be installed" in problem
    assert "dpft[quantised]" in problem
    with pytest.raises(ConfigurationError, match=library):
        quantisation_config(settings.architecture)


def test_contradictions_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_models, "find_spec", lambda _: True)
    asked = [
        "adapter=full",
        "architecture.quantisation=int8",
        "architecture.pretrained=false",
        "architecture.offload_activations=true",
    ]
    full, drawn, offload = large_model_problems(compose_settings(asked))
    assert "adapter=full" in full
    assert "architecture.pretrained=True" in drawn
    assert "architecture.activation_checkpointing=True" in offload
    assert large_model_problems(compose_settings([])) == []


def test_what_cannot_compute_activations_anew_is_refused() -> None:
    class Model(LlamaForCausalLM):  # type: ignore[no-untyped-call]  # theirs
        supports_gradient_checkpointing = False

    with torch.device("meta"):
        model = Model(LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(ConfigurationError, match=r"activation_checkpointing=False with Model"):
        large_models.save_memory(model, Architecture(activation_checkpointing=True))


@pytest.mark.slow
def test_a_base_is_not_held_twice_while_it_is_loaded(tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        vocab_size=64,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, 64)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADING, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    weights, peak = map(int, done.stdout.split())
    assert weights > 60 * 2**20, "in bfloat16, of a file twice as large"
    assert weights / 2 < peak < 1.3 * weights


# Memory of the process's own: pages of the file that is read belong to the kernel, which takes
# them back when it needs them.
LOADING = """
import sys, threading, time
from pathlib import Path
import transformers.models.llama.modeling_llama
from dpft.recipes.config.schema import Architecture
from dpft.recipes.models import load
from dpft.recipes.tasks.traits import TaskKind

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))

def watch():
    while watching:
        peaks.append(own())
        time.sleep(0.002)

peaks, watching, rest = [own()], [True], own()
watcher = threading.Thread(target=watch)
watcher.start()
model = load(sys.argv[1], Architecture(dtype="bfloat16"), (), 0, TaskKind.TEXT).model
watching.clear()
watcher.join()
print(sum(p.numel() * p.element_size() for p in model.parameters()), max(peaks) - rest)
"""


@pytest.mark.slow
def test_quantised_activations_of_the_libraries_are_refused() -> None:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    dynamic = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 2))
    torchao.quantize_(
        dynamic,
        torchao.Int8DynamicActivationInt8WeightConfig(),
        filter_fn=lambda _, name: name == "0",
    )
    with pytest.raises(UnsupportedError, match="activations may be quantised"):
        Engine(dynamic, LOSS)
    outliers = bitsandbytes.nn.Linear8bitLt(16, 16, has_fp16_weights=False, threshold=6.0)
    with pytest.raises(UnsupportedError, match="outlier"):
        Engine(torch.nn.Sequential(outliers, torch.nn.Linear(16, 2)), LOSS)
