"""Each loss is a function of its own record only."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from dpft.losses import (
    CausalLanguageModelling,
    Classification,
    Pooling,
    Regression,
    SequenceToSequence,
    classification_logits,
)
from dpft.records import collate

WORDS = 50
BERT = BertConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=WORDS,
    num_labels=3,
)


def rows(label: str) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(2)
    made: list[dict[str, Any]] = []
    for length in (9, 4, 6):
        ids = torch.randint(1, WORDS, (length,), generator=generator).tolist()
        row = {"input_ids": ids, "attention_mask": [1] * length}
        labels = {"class": length % 3, "score": length / 7, "tokens": [-100, -100, *ids[2:]]}
        made.append({**row, "labels": labels[label]})
    return made


def build(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "token":
        return BertForTokenClassification(BERT).eval()
    if kind == "score":
        config = BertConfig(**{**BERT.to_dict(), "num_labels": 1})
        return BertForSequenceClassification(config).eval()
    if kind == "sequence":
        return BertForSequenceClassification(BERT).eval()
    if kind == "gpt2":
        config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=WORDS, n_positions=30)
        return GPT2LMHeadModel(config).eval()
    config = T5Config(
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        vocab_size=WORDS,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval()


@pytest.mark.parametrize(
    ("kind", "label", "loss"),
    [
        ("sequence", "class", Classification()),
        ("token", "class", Classification(Pooling.MEAN)),
        ("score", "score", Regression()),
        ("gpt2", "tokens", CausalLanguageModelling()),
        ("t5", "tokens", SequenceToSequence()),
    ],
)
def test_a_loss_does_not_depend_on_batch_mates_or_padding(
    kind: str, label: str, loss: Classification
) -> None:
    model, data = build(kind), rows(label)
    together = loss(model, collate(data, 0))
    alone = torch.cat([loss(model, collate([row], 0)) for row in data])
    assert together.shape == (3,)
    assert torch.allclose(together, alone, atol=1e-5)


def test_mean_pooling_of_a_linear_head_is_the_head_of_mean_pooling() -> None:
    model, data = build("token"), collate(rows("class"), 0)
    inputs = {name: value for name, value in data.items() if name != "labels"}
    states = model.bert(**inputs).last_hidden_state
    weights = data["attention_mask"].unsqueeze(-1).float()
    pooled = (states * weights).sum(1) / weights.sum(1)
    expected = torch.nn.functional.cross_entropy(
        model.classifier(pooled), data["labels"], reduction="none"
    )
    assert torch.allclose(Classification(Pooling.MEAN)(model, data), expected, atol=1e-6)


def test_a_record_without_target_tokens_has_loss_zero() -> None:
    data = rows("tokens")
    data[1] = {**data[1], "labels": [-100] * len(data[1]["input_ids"])}
    losses = CausalLanguageModelling()(build("gpt2"), collate(data, 0))
    assert losses[1] == 0
    assert losses[0] > 0


def test_scores_of_a_soft_prompt_are_nobodys() -> None:
    batch, model = {"attention_mask": torch.tensor([[1, 1], [1, 0]])}, torch.nn.Module()
    logits = torch.tensor([[[9.0], [1.0], [3.0]], [[9.0], [5.0], [7.0]]])
    model.forward = lambda **_: SimpleNamespace(logits=logits)  # one row before the two tokens
    scores = classification_logits(model, batch, Pooling.MEAN)
    assert scores.tolist() == [[2.0], [5.0]]
