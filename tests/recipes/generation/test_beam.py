"""Beam search does what the papers' does, and a text does not depend on its batch-mates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from dpft import adapters
from dpft.recipes.config.generation import Generation
from dpft.recipes.generation.beam import NoRepetition, generate
from dpft.recipes.models import quiet_peft


def test_a_run_of_the_text_is_not_repeated_but_the_source_may_be_copied() -> None:
    rule = NoRepetition(3, start=4)
    tokens = torch.tensor([[1, 2, 3, 4, 1, 2], [9, 9, 9, 9, 5, 6]])
    kept = rule(tokens, torch.zeros(2, 10))
    assert kept.isfinite().all()  # 1 2 3 stands in the source alone
    tokens = torch.tensor([[9, 9, 9, 9, 1, 2, 3, 1, 2]])
    ruled = rule(tokens, torch.zeros(1, 10))
    assert ruled[0].isinf().nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("size", [1, 2])
def test_short_runs_are_ruled_out_too(size: int) -> None:
    ruled = NoRepetition(size, start=0)(torch.tensor([[4, 5, 4]]), torch.zeros(1, 6))
    assert ruled[0].isinf().nonzero().flatten().tolist() == ([4, 5] if size == 1 else [5])


def test_fewer_tokens_than_a_run_rule_out_nothing() -> None:
    assert NoRepetition(4, start=2)(torch.tensor([[7, 7]]), torch.zeros(1, 9)).isfinite().all()


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_a_text_does_not_depend_on_its_batch_mates(
    kind: str, tiny_decoder: Path, tiny_encoder_decoder: Path
) -> None:
    folder = tiny_decoder if kind == "decoder" else tiny_encoder_decoder
    auto = AutoModelForCausalLM if kind == "decoder" else AutoModelForSeq2SeqLM
    model, tokenizer = auto.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompts = tokenizer(["Ada", "town : Luton | patient : Ada Lovelace", "a b"])["input_ids"]
    settings = Generation(beams=2, max_new_tokens=6, batch_size=3)
    together = generate(model, tokenizer, prompts, settings)
    alone = [generate(model, tokenizer, [ids], settings)[0] for ids in prompts]
    assert together == alone
    assert any(together)


@pytest.mark.parametrize("adapter", ["attempt", "lora", "prefix", "prompt"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_adapters_texts_are_those_of_each_table_alone(kind: str, adapter: str) -> None:
    torch.manual_seed(0)
    with quiet_peft():
        model = adapters.build(adapter, _sharp(kind))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) if weight.requires_grad else 0)
    prompts = [[5, 6, 7], list(range(8, 19)), [20, 21], [30, 31, 32]]
    settings = Generation(beams=1, no_repeat_ngram=0, max_new_tokens=6, batch_size=4)
    with quiet_peft():
        written = generate(model, _Numbers(), prompts, settings)
        assert written == [_likeliest(model, ids, 6) for ids in prompts]


def _sharp(kind: str) -> Any:
    """Return a tiny decoder whose next token depends on where it stands."""
    shared: dict[str, Any] = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "gpt2":
        made: Any = GPT2LMHeadModel(
            GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **shared)
        )
    else:
        size: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        made = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, **size, **shared))
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(6 if weight.dim() > 1 else 1)
    return made


def _likeliest(model: Any, ids: list[int], most: int) -> str:
    text: list[int] = []
    while len(text) < most and 2 not in text:
        batch = torch.tensor([[*ids, *text]])
        out = model(input_ids=batch, attention_mask=torch.ones_like(batch))
        text.append(int(out.logits[0, -1].argmax()))
    return _Numbers().batch_decode(torch.tensor([text]))[0]


class _Numbers:
    """A tokenizer whose words are numbers."""

    pad_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def batch_decode(self, rows: torch.Tensor, **_: Any) -> list[str]:
        return [" ".join(str(token) for token in row if token > 2) for row in rows.tolist()]


def test_one_beam_without_rules_is_the_likeliest_token_each_time(tiny_decoder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_decoder)
    ids = tokenizer("On Monday")["input_ids"]
    settings = Generation(beams=1, no_repeat_ngram=0, max_new_tokens=5)
    written = generate(model, tokenizer, [ids], settings)
    expected = list(ids)
    for _ in range(5):
        expected.append(int(model(torch.tensor([expected])).logits[0, -1].argmax()))
    (text,) = tokenizer.batch_decode([expected[len(ids) :]], skip_special_tokens=True)
    assert written == [text.strip()]


def test_the_model_keeps_its_own_generation_settings(tiny_decoder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    tokenizer, before = AutoTokenizer.from_pretrained(tiny_decoder), model.generation_config
    generate(model, tokenizer, [[5, 6]], Generation(beams=1, max_new_tokens=1))
    assert model.generation_config is before
