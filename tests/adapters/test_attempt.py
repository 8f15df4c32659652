"""ATTEMPT against its equations, and what a record's prompt may depend on.

The behaviour in peft that every method owes is tested in `test_peft_behaviour.py`.
"""

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from torch import nn
from transformers.models.llama import modeling_llama
from transformers.models.t5 import modeling_t5

import dpft
from dpft import adapters
from dpft.adapters.attempt import AttemptConfig
from dpft.adapters.attention_prompts import pool_tokens
from dpft.adapters.source_prompts import read_prompt
from dpft.adapters.targets import task_type_of
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tensors = Mapping[str, torch.Tensor]
Tiny = Callable[..., transformers.PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]
Stirred = Callable[[nn.Module], nn.Module]
ARCHITECTURES = ("bert", "roberta", "gpt2", "t5", "llama")
LENGTH, WIDTH = 3, 16
IDS = torch.tensor([1, 0, 1, 1])  # not the same when read backwards


@pytest.fixture(autouse=True)
def _norms_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let T5 and Llama normalise in the precision of the model: theirs is single, whatever it is.

    A difference in the last digit of a double would then grow to one of 1e-8. Llama's attention
    written out is single too, so that `in_double` takes the other one.
    """

    def normalise(self: Any, states: torch.Tensor) -> torch.Tensor:
        mean = states.pow(2).mean(-1, keepdim=True)
        scaled = self.weight * states * torch.rsqrt(mean + self.variance_epsilon)
        return torch.as_tensor(scaled)

    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", normalise)
    monkeypatch.setattr(modeling_t5.T5LayerNorm, "forward", normalise)


def in_double(base: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    if base.config.model_type == "llama":
        base.set_attn_implementation("sdpa")
    return base.double()


@pytest.fixture
def adapted(tiny: Tiny, stirred: Stirred) -> Callable[..., Any]:
    """Return a maker of tiny models with ATTEMPT, moved from where it began, in double."""

    def make(architecture: str, **options: Any) -> Any:
        base = in_double(tiny(architecture))
        settings = {"num_virtual_tokens": LENGTH, "bottleneck": 5, "temperature": 4.0}
        options = {"task_type": task_type_of(base)} | settings | options
        model = get_peft_model(base, AttemptConfig(**options))
        assert isinstance(stirred(model.double()), PeftModel)
        return model.eval()

    return make


def build(base: transformers.PreTrainedModel, **options: Any) -> Any:
    return adapters.build("attempt", base, **options)


def parts(model: nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, tensor in model.named_parameters():
        if ".dpft_attempt_" in name:
            found[name.split(".dpft_attempt_")[1].replace(".default", "")] = tensor
    return found


def prompt_by_hand(
    embeds: torch.Tensor, own: torch.Tensor, tensors: Tensors, task: int
) -> torch.Tensor:
    """Return one record's prompt by the equations of the paper, token by token."""
    pooled = torch.stack([embeds[own == 1][:, d].max() for d in range(embeds.shape[1])])
    hidden = tensors["down.weight"] @ pooled
    raised = tensors["up.weight"] @ (hidden / (1 + torch.exp(-hidden)))
    spread = ((raised - raised.mean()) ** 2).mean()
    query = (raised - raised.mean()) / torch.sqrt(spread + 1e-5)
    query = query * tensors["norm.weight"] + tensors["norm.bias"]
    target = tensors["target.weight"][task]
    prompts = [*tensors["sources.weight"], target]
    scores = [torch.exp((prompt.max(0).values * query).sum() / 4.0) for prompt in prompts]
    total = sum(scores)
    mixed = sum(score / total * prompt for score, prompt in zip(scores, prompts, strict=True))
    return torch.as_tensor(mixed) + target


def without_cache(model: nn.Module, batch: Tensors, **tasks: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits = model(**batch, **tasks).logits
    assert isinstance(logits, torch.Tensor)
    return logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_equal_the_equations_written_out(
    architecture: str, adapted: Callable[..., Any], texts: Texts
) -> None:
    model, batch = adapted(architecture, num_tasks=2), texts(architecture)
    got = without_cache(model, batch, prompt_task_ids=IDS)
    bare = copy.deepcopy(model).unload()
    embeds = bare.get_input_embeddings()(batch["input_ids"])
    prompts = torch.stack(
        [
            prompt_by_hand(embeds[row], batch["attention_mask"][row], parts(model), int(IDS[row]))
            for row in range(len(embeds))
        ]
    )
    inputs = {
        "inputs_embeds": torch.cat([prompts, embeds], 1),
        "attention_mask": torch.cat([torch.ones(4, LENGTH), batch["attention_mask"]], 1).long(),
    }
    if architecture == "t5":
        expected = bare(**inputs, decoder_input_ids=batch["decoder_input_ids"]).logits
    else:
        states = bare.base_model(**inputs).last_hidden_state[:, LENGTH:]
        if architecture == "bert":
            states = bare.base_model.pooler(states)
        head = {"bert": "classifier", "roberta": "classifier"}.get(architecture, "lm_head")
        expected = bare.get_submodule(head)(states)
    assert float((got - expected.detach()).abs().max()) <= 1e-12


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_record_alone_equals_one_among_longer_mates(
    architecture: str, adapted: Callable[..., Any], texts: Texts
) -> None:
    model, batch = adapted(architecture), texts(architecture)
    own = int(batch["attention_mask"][2].sum())
    assert own < batch["input_ids"].shape[1]
    alone = {name: tensor[2:3] for name, tensor in batch.items()}
    for name in ("input_ids", "attention_mask"):
        alone[name] = alone[name][:, :own]
    among, single = without_cache(model, batch)[2], without_cache(model, alone)[0]
    if architecture in {"gpt2", "llama"}:
        among = among[:own]
    assert float((among - single).abs().max()) <= 1e-12


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("DistilBertForSequenceClassification", "distilbert"),
        ("DebertaForSequenceClassification", "deberta"),
        ("DebertaV2ForSequenceClassification", "deberta-v2"),
        ("Qwen2ForCausalLM", "qwen2"),
        ("MistralForCausalLM", "mistral"),
        ("T5ForSequenceClassification", "t5"),
        ("T5ForTokenClassification", "t5"),
        ("BertForQuestionAnswering", "bert"),
        ("BertForTokenClassification", "bert"),
        ("BertModel", "bert"),
    ],
)
def test_other_bodies_and_heads_take_the_prompt(
    kind: str, architecture: str, tiny: Tiny, texts: Texts, stirred: Stirred
) -> None:
    config = tiny(architecture).config
    config.eos_token_id, config.num_labels = 2, 2
    torch.manual_seed(0)
    base = getattr(transformers, kind)(config).double().eval()
    batch = texts("bert")
    batch["input_ids"][:, 3] = 2  # where T5 reads a record's class
    batch["input_ids"][batch["attention_mask"] == 0] = 0
    expected = base(**batch)[0]
    model = stirred(build(base, num_virtual_tokens=LENGTH, bottleneck=5).double()).eval()
    among = model(**batch)[0].detach()
    assert among.shape == expected.shape
    assert not torch.allclose(among, expected)
    alone = model(**{name: tensor[2:3, :4] for name, tensor in batch.items()})[0].detach()
    gap = (among[2:3, :4] if among.dim() > 1 and among.shape[1] == 7 else among[2:3]) - alone
    assert float(gap.abs().max()) <= 1e-6  # some normalise in single precision


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_decoder_that_classifies_reads_the_last_own_token(
    architecture: str, tiny: Tiny, texts: Texts, stirred: Stirred
) -> None:
    config = tiny(architecture).config
    config.num_labels = 3
    kinds: dict[str, Any] = {
        "gpt2": transformers.GPT2ForSequenceClassification,
        "llama": transformers.LlamaForSequenceClassification,
    }
    base = in_double(kinds[architecture](config))
    options = {"num_virtual_tokens": LENGTH, "bottleneck": 5}
    model = stirred(build(base, **options).double()).eval()
    batch = texts(architecture)
    batch["input_ids"] = batch["input_ids"] * batch["attention_mask"]  # padded with token 0
    alone = {name: tensor[2:3, :4] for name, tensor in batch.items()}
    gap = without_cache(model, batch)[2] - without_cache(model, alone)[0]
    assert float(gap.abs().max()) <= 1e-12


def test_pooling_is_blind_to_padding() -> None:
    embeds = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    pooled = pool_tokens(embeds, mask)
    assert torch.equal(pooled[0], embeds[0].max(0).values)
    assert torch.equal(pooled[1], embeds[1, :2].max(0).values)
    assert torch.equal(pooled[2], torch.zeros(4))
    embeds[1, 2:] = 1e6
    assert torch.equal(pool_tokens(embeds, mask)[1], pooled[1])
    assert torch.equal(pool_tokens(embeds, None), embeds.max(1).values)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("options", [{"num_tasks": 2}, {"train_sources": True}], ids=str)
def test_per_record_gradients_equal_a_loop(
    architecture: str,
    options: dict[str, Any],
    adapted: Callable[..., Any],
    texts: Texts,
    losses: Callable[[nn.Module, Tensors], torch.Tensor],
    loop: Callable[[nn.Module, Tensors], dict[str, torch.Tensor]],
    gradient_error: Callable[[Tensors, Tensors], float],
) -> None:
    model, batch = adapted(architecture, **options), texts(architecture)
    if "num_tasks" in options:
        batch["prompt_task_ids"] = IDS
    expected = loop(model, batch)
    assert all(bool(grads.any()) for grads in expected.values())
    got = dpft.per_record_gradients(model, losses, batch)
    assert any("sources" in name for name in got) == options.get("train_sources", False)
    assert gradient_error(got, expected) <= 1e-9


@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_gradients_of_a_record_are_blind_to_the_padding_of_its_batch(
    architecture: str,
    adapted: Callable[..., Any],
    texts: Texts,
    losses: Callable[[nn.Module, Tensors], torch.Tensor],
) -> None:
    model, batch = adapted(architecture), texts(architecture)
    alone = {name: tensor[2:3] for name, tensor in batch.items()}
    for name in ("input_ids", "attention_mask"):
        alone[name] = alone[name][:, :4]
    among = dpft.per_record_gradients(model, losses, batch)
    single = dpft.per_record_gradients(model, losses, alone)
    for name, grads in single.items():
        assert float((grads[0] - among[name][2]).abs().max()) <= 1e-12, name


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_record_moves_the_prompt_of_its_own_task_only(
    architecture: str,
    adapted: Callable[..., Any],
    texts: Texts,
    losses: Callable[[nn.Module, Tensors], torch.Tensor],
) -> None:
    model, batch = adapted(architecture, num_tasks=2), texts(architecture)
    got = dpft.per_record_gradients(model, losses, batch | {"prompt_task_ids": IDS})
    name = next(name for name in got if "target" in name)
    moved = got[name].flatten(2).any(-1)
    assert moved.tolist() == [[task == 0, task == 1] for task in IDS.tolist()]


@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_each_record_uses_the_prompt_of_its_task(
    architecture: str, adapted: Callable[..., Any], texts: Texts
) -> None:
    model, batch = adapted(architecture, num_tasks=2), texts(architecture)
    one = without_cache(model, batch, prompt_task_ids=torch.tensor([0, 0, 0, 0]))
    two = without_cache(model, batch, prompt_task_ids=torch.tensor([0, 1, 0, 1]))
    same = [torch.equal(first, second) for first, second in zip(one, two, strict=True)]
    assert same == [True, False, True, False]
    with pytest.raises(ConfigurationError, match="prompt_task_ids=None to name one of 2"):
        model(**batch)
    with pytest.raises(ConfigurationError, match=r"to have shape \[4\]"):
        model(**batch, prompt_task_ids=torch.tensor([0, 1]))
    with model.disable_adapter():
        assert torch.isfinite(model(**batch, prompt_task_ids=IDS).logits).all()


def greedy(model: nn.Module, batch: Tensors, steps: int, **tasks: torch.Tensor) -> torch.Tensor:
    """Return tokens chosen one by one, the whole text read again at each step."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for _ in range(steps):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        chosen = without_cache(model, inputs, **tasks)[:, -1:].argmax(-1)
        ids, mask = torch.cat([ids, chosen], 1), torch.cat([mask, torch.ones_like(chosen)], 1)
    return ids


@pytest.mark.parametrize("task_type", [TaskType.CAUSAL_LM, None])
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no_cache"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_decoders_generate_with_the_prompt_added_once(
    architecture: str,
    task_type: TaskType | None,
    adapted: Callable[..., Any],
    texts: Texts,
    *,
    use_cache: bool,
) -> None:
    tasks = {"prompt_task_ids": IDS} if task_type else {}
    model = adapted(architecture, num_tasks=2 if tasks else 1, task_type=task_type)
    batch = {name: tensor.flip(1) for name, tensor in texts(architecture).items()}
    settings = {"max_new_tokens": 4, "do_sample": False, "use_cache": use_cache}
    got = model.generate(**batch, **tasks, **settings, eos_token_id=None)
    assert torch.equal(got, greedy(model, batch, 4, **tasks))
    with model.disable_adapter():
        bare = model.generate(**batch, **settings, eos_token_id=None)
    assert not torch.equal(got, bare)


@pytest.mark.parametrize("task_type", [TaskType.SEQ_2_SEQ_LM, None])
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no_cache"])
def test_encoder_decoders_generate_under_the_prompt(
    task_type: TaskType | None,
    adapted: Callable[..., Any],
    texts: Texts,
    *,
    use_cache: bool,
) -> None:
    tasks = {"prompt_task_ids": IDS} if task_type else {}
    model = adapted("t5", num_tasks=2 if tasks else 1, task_type=task_type)
    batch = texts("t5")
    chosen = torch.zeros(4, 1, dtype=torch.long)
    del batch["decoder_input_ids"]
    for _ in range(4):
        logits = without_cache(model, batch | {"decoder_input_ids": chosen}, **tasks)
        chosen = torch.cat([chosen, logits[:, -1:].argmax(-1)], 1)
    settings = {"max_new_tokens": 4, "do_sample": False, "use_cache": use_cache}
    got = model.generate(**batch, **tasks, **settings, eos_token_id=None)
    assert torch.equal(got, chosen)


@pytest.mark.parametrize(("architecture", "repeats"), [("gpt2", 2), ("t5", 1)])
def test_beams_keep_the_task_of_their_record(
    architecture: str,
    repeats: int,
    adapted: Callable[..., Any],
    texts: Texts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = adapted(architecture, num_tasks=2), texts(architecture)
    batch.pop("decoder_input_ids", None)
    layer, seen = model.base_model.model.dpft_attempt, []
    prompt = layer.prompt

    def watched(embeds: torch.Tensor, mask: torch.Tensor, tasks: torch.Tensor | None) -> Any:
        seen.append(None if tasks is None else tasks.tolist())
        return prompt(embeds, mask, tasks)

    monkeypatch.setattr(layer, "prompt", watched)
    batch = {name: tensor.flip(1) for name, tensor in batch.items()}
    settings = {"max_new_tokens": 3, "do_sample": False, "num_beams": 2, "eos_token_id": None}
    model.generate(**batch, prompt_task_ids=IDS, **settings)
    assert seen == [[task for task in IDS.tolist() for _ in range(repeats)]]
    with pytest.raises(ConfigurationError, match="prompt_task_ids=None"):  # none are left over
        model.generate(**batch, **settings)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_a_model_without_task_type_has_the_prompt_too(
    architecture: str, adapted: Callable[..., Any], texts: Texts
) -> None:
    batch = texts(architecture)
    bare, typed = adapted(architecture, task_type=None), adapted(architecture)
    assert [type(each) is PeftModel for each in (bare, typed)] == [True, False]
    with torch.no_grad():
        for name, tensor in parts(bare).items():
            tensor.copy_(parts(typed)[name])
    if architecture == "bert":  # peft trains the head of the other one
        head = "base_model.model.classifier.modules_to_save.default"
        bare.base_model.model.classifier = typed.get_submodule(head)
    assert torch.equal(without_cache(bare, batch), without_cache(typed, batch))


def test_scores_of_tokens_stay_with_their_tokens(tiny: Tiny, stirred: Stirred) -> None:
    config = tiny("bert").config
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "token_type_ids": torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0]]),
        "labels": torch.tensor([[0, 1, 2, 0], [1, 2, -100, -100]]),
    }
    base: Any = transformers.BertForTokenClassification
    model = build(base(config), num_virtual_tokens=LENGTH)
    outputs = stirred(model).eval()(**batch)
    assert outputs.logits.shape == (2, 4, 3)
    loss = nn.functional.cross_entropy(outputs.logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(outputs.loss, loss)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_given_positions_are_counted_on_from_the_prompt(
    architecture: str, adapted: Callable[..., Any], texts: Texts
) -> None:
    model, batch = adapted(architecture), texts(architecture)
    given = torch.arange(7).expand(4, 7)
    expected = without_cache(model, batch)
    assert torch.equal(without_cache(model, batch | {"position_ids": given}), expected)
    positional = model.base_model(batch["input_ids"], attention_mask=batch["attention_mask"])
    assert torch.equal(positional.logits, expected)
    embeds = model.get_input_embeddings()(batch["input_ids"])
    by_embeds = {"inputs_embeds": embeds, "attention_mask": batch["attention_mask"]}
    assert torch.equal(without_cache(model, by_embeds), expected)


def test_left_padding_counts_nothing_where_positions_are_given(
    adapted: Callable[..., Any], texts: Texts
) -> None:
    model = adapted("gpt2")
    batch = {name: tensor.flip(1) for name, tensor in texts("gpt2").items()}
    for start, fill in ((0, 0), (0, 1), (2, 1)):  # the last as RoBERTa counts
        counted = batch["attention_mask"].cumsum(1) - 1 + start
        batch["position_ids"] = counted.masked_fill(batch["attention_mask"] == 0, fill)
        alone = {name: tensor[2:3, 3:] for name, tensor in batch.items()}
        gap = without_cache(model, batch)[2, 3:] - without_cache(model, alone)[0]
        assert float(gap.abs().max()) <= 1e-12


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"attention_mask": torch.ones(4, 1, 7, 7)}, "attention_mask of shape"),
        ({"attention_mask": torch.ones(4, 9)}, "attention_mask of shape"),
        ({"inputs_embeds": torch.ones(4, 7, 16)}, "one of input_ids and inputs_embeds"),
    ],
)
def test_inputs_that_would_void_the_mask_are_refused(
    inputs: dict[str, torch.Tensor], reason: str, adapted: Callable[..., Any], texts: Texts
) -> None:
    model = adapted("gpt2")
    with pytest.raises(ConfigurationError, match=reason):
        model(**(texts("gpt2") | inputs))


def test_parameters_are_as_many_as_published(tiny: Tiny) -> None:
    config = transformers.BertConfig(
        hidden_size=768, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    config.vocab_size, config.max_position_embeddings = 50, 128
    model = build(transformers.BertModel(config))
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count == 231_936
    layer = model.base_model.model.dpft_attempt
    assert layer.dpft_attempt_temperature == {"default": 768 * math.e}
    assert tuple(layer.table("sources", "default").weight.shape) == (4, 100, 768)


def test_the_seed_repeats_and_changes_all_that_is_drawn(tiny: Tiny) -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        return parts(build(tiny("gpt2"), num_virtual_tokens=4, seed=seed))

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    same = {name for name in one if torch.equal(one[name], other[name])}
    assert same == {"norm.weight", "norm.bias"}


def in_vocabulary(prompts: torch.Tensor, table: torch.Tensor) -> bool:
    rows = prompts.flatten(0, -2)
    return bool((rows[:, None] == table[None]).all(-1).any(-1).all())


def test_targets_begin_where_asked(tiny: Tiny) -> None:
    def target(**options: Any) -> torch.Tensor:
        options |= {"num_virtual_tokens": 3, "num_tasks": 2}
        return parts(build(tiny("gpt2"), **options))["target.weight"]

    table = tiny("gpt2").get_input_embeddings().weight
    assert isinstance(table, torch.Tensor)
    assert in_vocabulary(target(), table)
    assert not torch.equal(target()[0], target()[1])
    text = target(init="text", init_text_ids=[7, 9])
    assert torch.equal(text, table[[7, 9, 7]].expand(2, 3, WIDTH))
    uniform = target(init="random")
    assert not in_vocabulary(uniform, table)
    assert float(uniform.detach().abs().max()) <= 0.5
    model = build(tiny("gpt2"), num_virtual_tokens=3, init="source")
    assert in_vocabulary(parts(model)["sources.weight"], table)
    copied = target(init="source", init_source="vocabulary-2")
    assert torch.equal(copied, parts(model)["sources.weight"][2].expand(2, 3, WIDTH))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_virtual_tokens": 0}, "num_virtual_tokens=0 >= 1"),
        ({"num_tasks": 0, "bottleneck": -1}, "num_tasks=0 >= 1(.|\n)*bottleneck=-1 >= 1"),
        ({"temperature": 0.0}, "temperature=0.0 > 0"),
        ({"num_random_sources": -1}, "num_random_sources=-1 >= 0"),
        ({"num_random_sources": 0}, "num_random_sources=0 >= 1"),
        ({"init": "noise"}, "init=noise to be one of"),
        ({"init": "text"}, "init_text_ids=None"),
        ({"init": "text", "init_text_ids": [3, 50]}, r"init_text_ids=\[50\]"),
        ({"init": "source", "init_source": "sst2"}, "init_source=sst2"),
        ({"num_random_sources": 2, "source_names": ["one"]}, "source_names=one to be 2"),
        ({"num_random_sources": 2, "source_names": ["one", "one"]}, "to occur once"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused_before_anything_changes(
    options: dict[str, Any], reason: str, tiny: Tiny
) -> None:
    base = tiny("gpt2")
    names = [name for name, _ in base.named_modules()]
    with pytest.raises(ConfigurationError, match=reason):
        build(base, **options)
    assert [name for name, _ in base.named_modules()] == names
    assert all(parameter.requires_grad for parameter in base.parameters())


def test_models_of_others_are_refused() -> None:
    config = AttemptConfig(num_virtual_tokens=3)
    with pytest.raises(ConfigurationError, match="model=Sequential to be a model of transformers"):
        get_peft_model(nn.Sequential(nn.Embedding(5, 4)), config)


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
    tiny: Tiny, tuned: Callable[..., str], texts: Texts, tmp_path: Path
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


def test_a_configuration_can_be_used_twice(tiny: Tiny, tuned: Callable[..., str]) -> None:
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


def test_all_sources_that_do_not_fit_are_named(tiny: Tiny, tuned: Callable[..., str]) -> None:
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
    adapted: Callable[..., Any], tuned: Callable[..., str], texts: Texts, tiny: Tiny
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
    adapted: Callable[..., Any], texts: Texts, tiny: Tiny, tmp_path: Path
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
    change: Callable[[Any], None], reason: str, adapted: Callable[..., Any]
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
    adapted: Callable[..., Any], texts: Texts, tiny: Tiny, tmp_path: Path
) -> None:
    adapted("gpt2").save_pretrained(str(tmp_path))
    config = AttemptConfig.from_pretrained(str(tmp_path))
    model = get_peft_model(tiny("gpt2"), config)
    with pytest.raises(ConfigurationError, match="sources of adapter=default to be loaded"):
        model(**texts("gpt2"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_switches_frozen_sources_on(tiny: Tiny, dtype: torch.dtype) -> None:
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


def test_trained_sources_are_switched_like_the_rest(tiny: Tiny) -> None:
    options: dict[str, Any] = {"num_virtual_tokens": 3, "train_sources": True}
    model = build(tiny("gpt2"), **options)
    assert parts(model)["sources.weight"].requires_grad
    model.add_source(torch.ones(3, WIDTH), "ones")
    assert parts(model)["sources.weight"].requires_grad
    model.base_model.disable_adapter_layers()
    assert not parts(model)["sources.weight"].requires_grad


def unpickled(model: PeftModel) -> Any:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 - our own


@pytest.mark.parametrize("twin", [copy.deepcopy, unpickled])
def test_copies_generate_from_their_own_prompts(
    twin: Callable[[Any], Any], adapted: Callable[..., Any], texts: Texts
) -> None:
    model, batch = adapted("gpt2", num_tasks=2), texts("gpt2")
    other, expected = twin(model), without_cache(model, batch, prompt_task_ids=IDS)
    with torch.no_grad():
        parts(other)["target.weight"].zero_()
    assert torch.equal(without_cache(model, batch, prompt_task_ids=IDS), expected)
    settings = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": None}
    got = other.generate(**batch, prompt_task_ids=IDS, **settings)
    flat = other.generate(**batch, prompt_task_ids=1 - IDS, **settings)
    assert torch.equal(got, flat)  # both prompts are zero now
    assert not torch.equal(without_cache(other, batch, prompt_task_ids=IDS), expected)


def test_unloading_takes_the_hooks_off(
    adapted: Callable[..., Any], texts: Texts, tiny: Tiny
) -> None:
    for architecture in ("bert", "gpt2", "t5"):
        bare = adapted(architecture, task_type=None).unload()
        hooked = [
            module
            for module in bare.modules()
            if module._forward_pre_hooks or module._forward_hooks
        ]
        fresh: Any = tiny(architecture).double()
        counted = [m for m in fresh.modules() if m._forward_pre_hooks or m._forward_hooks]
        assert len(hooked) == len(counted)
        batch = texts(architecture)
        gap = without_cache(bare, batch) - without_cache(fresh.eval(), batch)
        assert not gap.any()


def test_training_over_sources_with_a_certificate_is_refused(
    tiny: Tiny, tuned: Callable[..., str], tmp_path: Path
) -> None:
    run, public = Path(tuned("mnli/adapter")).parent, tuned("sst2")
    (run / "certificate.json").write_text("{}")
    model: Any = build(tiny("gpt2"), num_virtual_tokens=LENGTH, sources=[public])
    adapters.refuse_unfit(model)
    model.add_source(run)
    built = build(tiny("gpt2"), num_virtual_tokens=LENGTH, sources=[public, str(run)])
    built.save_pretrained(str(tmp_path / "out"))
    loaded = PeftModel.from_pretrained(tiny("gpt2"), str(tmp_path / "out"))
    for each in (model, built, loaded):
        with pytest.raises(ConfigurationError, match="sources=mnli to be public"):
            adapters.refuse_unfit(each)
