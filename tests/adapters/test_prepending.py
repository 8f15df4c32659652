"""How the prompt of ATTEMPT enters bodies and heads, in one call and in generation."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel, TaskType
from torch import nn

from dpft.errors import ConfigurationError

pytestmark = [
    pytest.mark.usefixtures("norms_in_double"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

Adapted = Callable[..., Any]
Build = Callable[..., Any]
InDouble = Callable[[transformers.PreTrainedModel], transformers.PreTrainedModel]
Outputs = Callable[..., torch.Tensor]
Parts = Callable[[nn.Module], dict[str, torch.Tensor]]
Tensors = Mapping[str, torch.Tensor]
Tiny = Callable[..., transformers.PreTrainedModel]
Texts = Callable[..., dict[str, torch.Tensor]]
Stirred = Callable[[nn.Module], nn.Module]
LENGTH = 3  # as `adapted` has it
IDS = torch.tensor([1, 0, 1, 1])  # not the same when read backwards


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
    kind: str, architecture: str, tiny: Tiny, texts: Texts, stirred: Stirred, build: Build
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
    architecture: str,
    tiny: Tiny,
    texts: Texts,
    stirred: Stirred,
    in_double: InDouble,
    build: Build,
    without_cache: Outputs,
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


@pytest.fixture
def greedy(without_cache: Outputs) -> Outputs:
    """Return what chooses tokens one by one, the whole text read again at each step."""

    def choose(model: nn.Module, batch: Tensors, steps: int, **tasks: torch.Tensor) -> torch.Tensor:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        for _ in range(steps):
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
            chosen = without_cache(model, inputs, **tasks)[:, -1:].argmax(-1)
            ids, mask = torch.cat([ids, chosen], 1), torch.cat([mask, torch.ones_like(chosen)], 1)
        return ids

    return choose


@pytest.mark.parametrize("task_type", [TaskType.CAUSAL_LM, None])
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no_cache"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_decoders_generate_with_the_prompt_added_once(
    architecture: str,
    task_type: TaskType | None,
    adapted: Adapted,
    texts: Texts,
    greedy: Outputs,
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
    adapted: Adapted,
    texts: Texts,
    without_cache: Outputs,
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
    adapted: Adapted,
    texts: Texts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = adapted(architecture, num_tasks=2), texts(architecture)
    if batch.pop("decoder_input_ids", None) is None:  # a decoder goes on from the last token
        batch = {name: tensor.flip(1) for name, tensor in batch.items()}
    layer, seen = model.base_model.model.dpft_attempt, []
    prompt = layer.prompt

    def watched(embeds: torch.Tensor, mask: torch.Tensor, tasks: torch.Tensor | None) -> Any:
        seen.append(None if tasks is None else tasks.tolist())
        return prompt(embeds, mask, tasks)

    monkeypatch.setattr(layer, "prompt", watched)
    settings = {"max_new_tokens": 3, "do_sample": False, "num_beams": 2, "eos_token_id": None}
    model.generate(**batch, prompt_task_ids=IDS, **settings)
    assert seen == [[task for task in IDS.tolist() for _ in range(repeats)]]
    with pytest.raises(ConfigurationError, match="prompt_task_ids=None"):  # none are left over
        model.generate(**batch, **settings)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_a_model_without_task_type_has_the_prompt_too(
    architecture: str, adapted: Adapted, texts: Texts, parts: Parts, without_cache: Outputs
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


def test_scores_of_tokens_stay_with_their_tokens(
    tiny: Tiny, stirred: Stirred, build: Build
) -> None:
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
    architecture: str, adapted: Adapted, texts: Texts, without_cache: Outputs
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
    adapted: Adapted, texts: Texts, without_cache: Outputs
) -> None:
    model = adapted("gpt2")
    batch = {name: tensor.flip(1) for name, tensor in texts("gpt2").items()}
    for start, fill in ((0, 0), (0, 1), (2, 1)):  # the last as RoBERTa counts
        counted = batch["attention_mask"].cumsum(1) - 1 + start
        batch["position_ids"] = counted.masked_fill(batch["attention_mask"] == 0, fill)
        alone = {name: tensor[2:3, 3:] for name, tensor in batch.items()}
        gap = without_cache(model, batch)[2, 3:] - without_cache(model, alone)[0]
        assert float(gap.abs().max()) <= 1e-12


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_left_padding_without_positions_is_refused(
    architecture: str, adapted: Adapted, texts: Texts
) -> None:
    model, batch = adapted(architecture), texts(architecture)
    batch["attention_mask"] = batch["attention_mask"].flip(1)
    with pytest.raises(ConfigurationError, match="attention_mask to begin with 1 in every row"):
        model(**batch)
    batch["attention_mask"] = torch.ones(4, 7, dtype=torch.long)
    batch["attention_mask"][1] = 0  # no tokens, hence no distance to them
    model(**batch)


def test_left_padding_is_refused_where_distances_go_by_no_positions(
    tiny: Tiny, texts: Texts, build: Build
) -> None:
    config: Any = tiny("deberta").config
    config.relative_attention = True
    base: Any = transformers.DebertaForSequenceClassification(config)
    model = build(base.eval(), num_virtual_tokens=LENGTH)
    batch = texts("deberta") | {"position_ids": torch.arange(7).expand(4, 7)}
    model(**batch)
    batch["attention_mask"] = batch["attention_mask"].flip(1)
    with pytest.raises(ConfigurationError, match="where the model goes by position_ids alone"):
        model(**batch)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "deberta", "gpt2"])
def test_texts_that_leave_no_position_for_the_prompt_are_refused(
    architecture: str, tiny: Tiny, build: Build
) -> None:
    config = tiny(architecture).config
    config.max_position_embeddings = 24
    auto: Any = transformers.AutoModel
    base = auto.from_config(config)
    model = build(base.eval(), num_virtual_tokens=LENGTH)
    room = 24 - (config.pad_token_id + 1 if architecture == "roberta" else 0)
    ids = torch.full((2, room - LENGTH), 7)
    assert model(input_ids=ids).last_hidden_state.shape[1] == room - LENGTH
    expected = rf"prompt length=3 and {room - 2} positions of tokens to be at most {room} together"
    with pytest.raises(ConfigurationError, match=expected):
        model(input_ids=torch.full((2, room - LENGTH + 1), 7))


def test_positions_that_are_given_decide_what_is_too_long(adapted: Adapted, texts: Texts) -> None:
    model, batch = adapted("gpt2"), texts("gpt2")
    model(**batch, position_ids=torch.arange(14, 21).expand(4, 7))
    with pytest.raises(ConfigurationError, match=r"prompt length=3 and 22 positions .* most 24 "):
        model(**batch, position_ids=torch.arange(15, 22).expand(4, 7))


def test_text_is_generated_up_to_the_last_position(adapted: Adapted, texts: Texts) -> None:
    model, batch = adapted("gpt2"), texts("gpt2")
    del batch["attention_mask"]
    settings = {"do_sample": False, "eos_token_id": None}
    assert model.generate(**batch, max_new_tokens=15, **settings).shape == (4, 22)
    with pytest.raises(ConfigurationError, match=r"prompt length=3 and 22 positions .* most 24 "):
        model.generate(**batch, max_new_tokens=16, **settings)


@pytest.mark.parametrize("use", ["plain", "disabled", "continued", "encoded", "failed"])
def test_tasks_of_a_call_are_not_kept_after_it(use: str, adapted: Adapted, texts: Texts) -> None:
    architecture = "t5" if use == "encoded" else "gpt2"
    model, batch = adapted(architecture, num_tasks=2), texts(architecture)
    first = model(**batch, prompt_task_ids=IDS)
    prepending = model.base_model.model.dpft_attempt.prepending
    tasks: dict[str, Any] = {"prompt_task_ids": 1 - IDS}
    if use == "disabled":
        with model.disable_adapter():
            model(**batch, **tasks)
    elif use == "continued":
        ids, mask = batch["input_ids"][:, :1], torch.ones(4, 8)
        model(ids, attention_mask=mask, past_key_values=first.past_key_values, **tasks)
    elif use == "encoded":
        encoded: Any = (first.encoder_last_hidden_state,)
        words = batch["decoder_input_ids"]
        model(encoder_outputs=encoded, decoder_input_ids=words, **tasks)
    elif use == "failed":
        with pytest.raises(ConfigurationError, match="attention_mask"):
            model(**(batch | {"attention_mask": torch.ones(4, 9)}), **tasks)
    assert prepending._of_call is None
    assert prepending._standing is None


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"attention_mask": torch.ones(4, 1, 7, 7)}, "attention_mask of shape"),
        ({"attention_mask": torch.ones(4, 9)}, "attention_mask of shape"),
        ({"inputs_embeds": torch.ones(4, 7, 16)}, "one of input_ids and inputs_embeds"),
    ],
)
def test_inputs_that_would_void_the_mask_are_refused(
    inputs: dict[str, torch.Tensor], reason: str, adapted: Adapted, texts: Texts
) -> None:
    model = adapted("gpt2")
    with pytest.raises(ConfigurationError, match=reason):
        model(**(texts("gpt2") | inputs))


def test_unloading_takes_the_hooks_off(
    adapted: Adapted, texts: Texts, tiny: Tiny, without_cache: Outputs
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
