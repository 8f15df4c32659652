"""ATTEMPT against its equations, and what a record's prompt may depend on.

How the prompt enters a model is tested in `test_prepending.py`, its sources in
`test_source_prompts.py`, the behaviour in peft that every method owes in
`test_peft_behaviour.py`.
"""

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model
from torch import nn

import dpft
from dpft.adapters.attempt import AttemptConfig
from dpft.adapters.attention_prompts import pool_tokens
from dpft.errors import ConfigurationError

pytestmark = [
    pytest.mark.usefixtures("norms_in_double"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

Adapted = Callable[..., Any]
Build = Callable[..., Any]
Outputs = Callable[..., torch.Tensor]
Parts = Callable[[nn.Module], dict[str, torch.Tensor]]
Tensors = Mapping[str, torch.Tensor]
Tiny = Callable[..., transformers.PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]
ARCHITECTURES = ("bert", "roberta", "gpt2", "t5", "llama")
LENGTH, WIDTH = 3, 16  # as `adapted` and `tiny` have them
IDS = torch.tensor([1, 0, 1, 1])  # not the same when read backwards


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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_equal_the_equations_written_out(
    architecture: str, adapted: Adapted, texts: Texts, parts: Parts, without_cache: Outputs
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
    architecture: str, adapted: Adapted, texts: Texts, without_cache: Outputs
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
    adapted: Adapted,
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
    adapted: Adapted,
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
    adapted: Adapted,
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
    architecture: str, adapted: Adapted, texts: Texts, without_cache: Outputs
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
    for stranger in (-1, 2):
        with pytest.raises(ConfigurationError, match="prompt_task_ids in 0 to 1"):
            model(**batch, prompt_task_ids=torch.tensor([0, 1, stranger, 0]))
    with model.disable_adapter():
        assert torch.isfinite(model(**batch, prompt_task_ids=IDS).logits).all()


def test_parameters_are_as_many_as_published(tiny: Tiny, build: Build) -> None:
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


def test_the_seed_repeats_and_changes_all_that_is_drawn(
    tiny: Tiny, build: Build, parts: Parts
) -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        return parts(build(tiny("gpt2"), num_virtual_tokens=4, seed=seed))

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    same = {name for name in one if torch.equal(one[name], other[name])}
    assert same == {"norm.weight", "norm.bias"}


def in_vocabulary(prompts: torch.Tensor, table: torch.Tensor) -> bool:
    rows = prompts.flatten(0, -2)
    return bool((rows[:, None] == table[None]).all(-1).any(-1).all())


def test_targets_begin_where_asked(tiny: Tiny, build: Build, parts: Parts) -> None:
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
    options: dict[str, Any], reason: str, tiny: Tiny, build: Build
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


def unpickled(model: PeftModel) -> Any:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 - our own


@pytest.mark.parametrize("twin", [copy.deepcopy, unpickled])
def test_copies_generate_from_their_own_prompts(
    twin: Callable[[Any], Any], adapted: Adapted, texts: Texts, parts: Parts, without_cache: Outputs
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
