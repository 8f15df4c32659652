"""Each loss is a function of its own record only."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from dpft import per_record_gradients
from dpft.losses import (
    CausalLanguageModelling,
    Classification,
    Infilling,
    Pooling,
    RankedChoices,
    Regression,
    SequenceToSequence,
    classification_logits,
)
from dpft.records import collate

WORDS = 50
MASK = 49
INFILLING = Infilling(label_tokens=(5, 6, 7), mask_token=MASK)
CHOICES = RankedChoices(choices=((5, 1), (6, 7, 1), (8, 1)))
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
        ids = torch.randint(1, MASK, (length,), generator=generator).tolist()
        if label == "masked":
            ids[length // 2] = MASK
        row = {"input_ids": ids, "attention_mask": [1] * length}
        labels = {
            "class": length % 3,
            "masked": length % 3,
            "score": length / 7,
            "tokens": [-100, -100, *ids[2:]],
        }
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
    if kind == "masked":
        return BertForMaskedLM(BERT).eval()
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
        ("masked", "masked", INFILLING),
        ("gpt2", "tokens", CausalLanguageModelling()),
        ("gpt2", "tokens", CausalLanguageModelling(label_smoothing=0.1)),
        ("t5", "tokens", SequenceToSequence()),
        ("t5", "tokens", SequenceToSequence(label_smoothing=0.1)),
        ("t5", "class", CHOICES),
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


def test_infilling_compares_the_words_of_classes_at_the_mask_alone() -> None:
    model, data = build("masked"), collate(rows("masked"), 0)
    inputs = {name: value for name, value in data.items() if name != "labels"}
    logits = model(**inputs).logits
    for index, row in enumerate(rows("masked")):
        at_mask = logits[index, row["input_ids"].index(MASK), [5, 6, 7]]
        assert torch.allclose(INFILLING.logits(model, data)[index], at_mask, atol=1e-6)
        expected = -at_mask.log_softmax(0)[row["labels"]]
        assert torch.allclose(INFILLING(model, data)[index], expected, atol=1e-5)


def test_the_losses_of_t_few_are_those_of_the_paper_one_record_at_a_time() -> None:
    model = build("t5")
    for row in rows("class"):
        data = collate([row], 0)
        inputs = {name: value for name, value in data.items() if name != "labels"}
        tokens = []
        for choice in CHOICES.choices:
            probs = model(**inputs, labels=torch.tensor([choice])).logits[0].softmax(-1)
            tokens.append(torch.stack([probs[t, token] for t, token in enumerate(choice)]))
        right = row["labels"]
        betas = torch.stack([p.log().mean() for p in tokens])
        wrong = torch.cat([p for c, p in enumerate(tokens) if c != right])
        expected = [-betas[right], -(1 - wrong).log().mean(), -betas.log_softmax(0)[right]]
        alone = RankedChoices(CHOICES.choices, unlikelihood=0.0, length_normalised=0.0)
        assert torch.allclose(alone(model, data)[0], expected[0], atol=1e-5)
        assert torch.allclose(CHOICES(model, data)[0], sum(expected), atol=1e-5)


def test_gradients_of_the_losses_of_t_few_and_of_infilling_equal_a_loop_over_records() -> None:
    for kind, label, loss in (("t5", "class", CHOICES), ("masked", "masked", INFILLING)):
        model, data = build(kind).double(), rows(label)
        found = per_record_gradients(model, loss, collate(data, 0))
        for index, row in enumerate(data):
            model.zero_grad()
            loss(model, collate([row], 0)).sum().backward()
            for name, parameter in model.named_parameters():
                expected = 0 if parameter.grad is None else parameter.grad
                assert (found[name][index] - expected).abs().max() < 1e-9, (kind, name)


def test_a_sure_wrong_choice_has_a_finite_unlikelihood() -> None:
    model = torch.nn.Module()
    logits = torch.full((1, 1, 3), -1e4)
    logits[..., 2] = 1e4
    model.forward = lambda **_: SimpleNamespace(logits=logits)
    batch = {"input_ids": torch.tensor([[1]]), "labels": torch.tensor([0])}
    assert RankedChoices(((1,), (2,)))(model, batch).isfinite().all()
