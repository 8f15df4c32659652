"""The preflight turns silent failures into errors, and leaves the model as it was."""

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft.engine.attachment import Engine
from dpft.engine.outer import Outer, raw_squared_norms
from dpft.errors import BrokenGuaranteeError, ConfigurationError, UnsupportedError
from dpft.losses import Classification
from dpft.preflight import Check, PreflightReport, SyntheticRecords, run_preflight
from dpft.records import Row, collate
from dpft.synthetic import synthetic_rows

Batch = Mapping[str, torch.Tensor]
PRIVACY = dpft.Privacy(noise_multiplier=1.0, delta=1e-5, steps=1)
CONFIG = BertConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=60,
    num_labels=3,
)
TEMPLATE: Row = {"input_ids": [7, 7], "attention_mask": [1, 1], "labels": 1}


def fly(model: nn.Module, loss: object = None) -> PreflightReport:
    rows = synthetic_rows(TEMPLATE, CONFIG)
    records = SyntheticRecords(rows, lambda chosen: collate(chosen, 0))
    return run_preflight(Engine(model, loss or Classification()), records, PRIVACY)


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(CONFIG).train()


def test_an_ordinary_model_passes_with_dropout_on() -> None:
    report = fly(bert())
    assert report.passed
    assert all(check.value <= 1e-4 for check in report.checks[:2])


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_model_that_recomputes_passes_with_dropout_on(reentrant: bool) -> None:
    model = bert()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})

    assert fly(model).passed
    assert model.training
    with pytest.raises(BrokenGuaranteeError, match=r"loop over single ones|weighted sum"):
        fly(model, coupled)


def test_the_model_is_left_as_it_was_bit_for_bit() -> None:
    model = bert()
    before, mode = copy.deepcopy(model.state_dict()), model.training
    fly(model)
    assert model.training is mode
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_model_is_restored_when_a_check_fails() -> None:
    model = bert()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BrokenGuaranteeError):
        fly(model, coupled)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_norm_that_is_understated_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("captures", "record_gradients"):
        monkeypatch.setattr(f"dpft.engine.{module}.ghost_is_cheaper", lambda *_: True)
    assert fly(bert()).passed
    monkeypatch.setattr(
        "dpft.engine.record_gradients.raw_squared_norms",
        lambda sites: 0.9 * raw_squared_norms(sites),
    )
    with pytest.raises(BrokenGuaranteeError, match="norm by the form used"):
        fly(bert())


def test_a_clipped_sum_that_ghosts_add_up_wrongly_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("captures", "record_gradients"):
        monkeypatch.setattr(f"dpft.engine.{module}.ghost_is_cheaper", lambda *_: True)

    def shifted(outer: Outer, factors_B: torch.Tensor, raw_sum_PD: torch.Tensor) -> None:
        raw_sum_PD += torch.einsum("b,bpd->pd", factors_B.roll(1), outer.instantiated())

    monkeypatch.setattr(Outer, "add_weighted", shifted)
    with pytest.raises(BrokenGuaranteeError, match="weighted sum"):
        fly(bert())


def coupled(model: nn.Module, batch: Batch) -> torch.Tensor:
    losses = Classification()(model, batch)
    return losses / losses.sum()


def padded(model: nn.Module, batch: Batch) -> torch.Tensor:
    losses = Classification()(model, batch)
    return losses * batch["input_ids"].shape[1]


def test_losses_that_are_normalised_over_the_batch_fail() -> None:
    with pytest.raises(BrokenGuaranteeError, match=r"loop over single ones|weighted sum"):
        fly(bert(), coupled)


def test_a_loss_that_sees_the_length_of_its_batch_mates_fails() -> None:
    with pytest.raises(BrokenGuaranteeError, match="loop over single ones"):
        fly(bert(), padded)


class RollsRecords(nn.Module):
    """Gives each record the features of its neighbour: every shape is right."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = bert()
        self.config = CONFIG

    def forward(self, **inputs: torch.Tensor) -> object:
        out = self.inner(**inputs)
        out.logits = out.logits + 0.5 * out.logits.roll(1, 0)
        return out


class TimeMajor(nn.Module):
    """Flattens tokens before records: every shape is right, every attribution wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 8).requires_grad_(requires_grad=False)
        self.weight = nn.Parameter(torch.randn(8, 3))
        self.bias = nn.Parameter(torch.randn(3))
        self.config = CONFIG

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        x = self.embedding(input_ids).transpose(0, 1)
        tokens, records, width = x.shape
        y = torch.addmm(self.bias, x.reshape(-1, width), self.weight)
        y = y.view(tokens, records, 3).transpose(0, 1) * attention_mask.unsqueeze(-1)
        return type("Output", (), {"logits": y.sum(1)})()


@pytest.mark.parametrize("count", [1, 2])
def test_records_that_would_show_nothing_are_refused(count: int) -> None:
    row = {**TEMPLATE, "input_ids": [5, 6, 7], "attention_mask": [1, 1, 1]}
    with pytest.raises(ConfigurationError, match="differ"):
        SyntheticRecords([row] * count, lambda chosen: collate(chosen, 0))


class CouplesInTraining(nn.Module):
    """Shifts activations by a mean over records, below every trainable parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = bert()
        self.inner.bert.requires_grad_(requires_grad=False)
        self.config = CONFIG

    def forward(self, **inputs: torch.Tensor) -> object:
        states = self.inner.bert(**inputs).pooler_output
        if self.training:
            states = states + 0.5 * states.mean(0)
        return type("Output", (), {"logits": self.inner.classifier(states)})()


def test_coupling_below_the_trainable_parameters_in_train_mode_fails() -> None:
    with pytest.raises(BrokenGuaranteeError, match="loop over single ones"):
        fly(CouplesInTraining().train())


def test_mixed_records_fail() -> None:
    with pytest.raises(BrokenGuaranteeError, match="weighted sum"):
        fly(RollsRecords())


def test_a_wrongly_attributed_axis_fails() -> None:
    with pytest.raises((BrokenGuaranteeError, UnsupportedError)):
        fly(TimeMajor())


def test_a_parameter_without_a_gradient_is_named() -> None:
    model = bert()
    model.spare = nn.Parameter(torch.ones(2))
    with pytest.raises(BrokenGuaranteeError, match="spare"):
        fly(model)


def test_nan_fails_a_check() -> None:
    assert not Check("x", float("nan"), 1.0).passed


def test_models_with_several_tokens_for_the_end_get_synthetic_rows() -> None:
    config = BertConfig(vocab_size=6, eos_token_id=[1, 2], num_labels=2)
    rows = synthetic_rows({"input_ids": [0]}, config, lengths=(30, 31))
    assert {token for row in rows for token in row["input_ids"]} == {3, 4, 5}


def test_synthetic_rows_read_no_value_of_the_template() -> None:
    other: Row = {"input_ids": [3] * 50, "attention_mask": [1] * 50, "labels": 0}
    assert synthetic_rows(TEMPLATE, CONFIG) == synthetic_rows(other, CONFIG)


def test_synthetic_rows_have_three_lengths_and_public_ranges() -> None:
    rows = synthetic_rows(TEMPLATE, CONFIG)
    assert len({len(row["input_ids"]) for row in rows}) == 3
    assert all(0 <= token < 60 for row in rows for token in row["input_ids"])
    assert all(row["labels"] in range(3) for row in rows)
    assert all(CONFIG.pad_token_id not in row["input_ids"] for row in rows)


def test_a_field_of_unknown_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'age'"):
        synthetic_rows({**TEMPLATE, "age": 41}, CONFIG)
