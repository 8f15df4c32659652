"""`dpft.fit` from records to a folder: what it writes, books and refuses."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft.accounting import Certificate, epsilon
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.losses import Classification
from dpft.privacy import PrivacyMode
from dpft.private_step import StepSettings
from dpft.progress import Progress
from dpft.randomness import PinnedRandomness
from dpft.rendering import rounded_up
from dpft.training import FitOptions

RECORDS, STEPS = 80, 6
LORA = LoraConfig(
    task_type="SEQ_CLS", target_modules=["query"], r=2, modules_to_save=["classifier"]
)
PINNED = FitOptions(step=StepSettings(randomness=PinnedRandomness(3)))
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def build() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=30,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def records() -> list[dict[str, Any]]:
    """Return records whose label is the first of two words."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for index in range(RECORDS):
        words = torch.randint(5, 30, (2 + index % 5,), generator=generator).tolist()
        ids = [3 + index % 2, *words]
        made.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 2})
    return made


def fit(options: FitOptions | None = None, **arguments: Any) -> dpft.FitResult:
    privacy = {"noise_multiplier": 1.0, "delta": 1e-3, "expected_batch_size": 20, "steps": STEPS}
    settings = {
        "loss": Classification(),
        "privacy": dpft.Privacy(**privacy),
        "adapter": LORA,
        "options": options,
        **arguments,
    }
    return dpft.fit(build(), records(), **settings)


def again(model: nn.Module, **arguments: Any) -> dpft.FitResult:
    """Train a model once more, for one step."""
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=1)
    return dpft.fit(model, records(), loss=Classification(), privacy=privacy, **arguments)


def weights(result: dpft.FitResult) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in result.model.parameters() if p.requires_grad])


def test_the_certificate_states_the_algorithm_that_ran() -> None:
    result = fit()
    (run,) = result.certificate.runs
    assert run.mechanism == result.plan.mechanism(STEPS)
    assert run.private
    assert result.epsilon == result.plan.epsilon()
    assert "ChaCha20" in run.generator


def test_the_folder_holds_adapter_certificate_and_report(tmp_path: Path) -> None:
    result = fit(out=tmp_path / "run")
    assert result.adapter_dir is not None
    assert (result.adapter_dir / "adapter_model.safetensors").is_file()
    text = (tmp_path / "run" / "certificate.json").read_text(encoding="utf-8")
    assert Certificate.from_json(text) == result.certificate
    assert result.report is not None
    assert rounded_up(result.epsilon) in result.report.read_text(encoding="utf-8")


def test_two_runs_have_different_names_and_noise() -> None:
    one, other = fit(), fit()
    assert one.certificate.runs[0].run_id != other.certificate.runs[0].run_id
    assert not torch.equal(weights(one), weights(other))


def test_the_seed_fixes_the_initialisation_and_nothing_else() -> None:
    torch.manual_seed(0)
    one = fit(FitOptions(seed=4))
    torch.manual_seed(0)
    other = fit(FitOptions(seed=4))
    assert not torch.equal(weights(one), weights(other))


def test_pinned_runs_are_equal_and_not_private(tmp_path: Path) -> None:
    one, other = fit(PINNED, out=tmp_path / "pinned"), fit(PINNED)
    assert torch.equal(weights(one), weights(other))
    assert one.epsilon == math.inf
    assert not one.certificate.runs[0].private
    assert one.report is not None
    assert one.report.read_text(encoding="utf-8").startswith("**NOT PRIVATE**")


def test_a_run_that_is_not_private_says_so(tmp_path: Path) -> None:
    privacy = dpft.Privacy(
        mode=PrivacyMode.NOT_PRIVATE, delta=1e-3, expected_batch_size=20, steps=STEPS
    )
    result = fit(privacy=privacy, out=tmp_path / "run")
    assert result.epsilon == math.inf
    assert result.preflight is None
    assert result.report is not None
    assert result.report.read_text(encoding="utf-8").startswith("**NOT PRIVATE**")


def test_progress_never_states_less_epsilon_than_was_spent() -> None:
    seen: list[Progress] = []
    result = fit(on_step=seen.append)
    assert [progress.step for progress in seen] == list(range(1, STEPS + 1))
    for progress in seen:
        assert progress.spent_epsilon >= result.plan.epsilon(progress.step)
    assert seen[-1].spent_epsilon == seen[-1].target_epsilon == result.epsilon


def test_private_training_learns_with_little_noise() -> None:
    privacy = dpft.Privacy(noise_multiplier=0.1, delta=1e-3, expected_batch_size=40, steps=60)
    result = fit(PINNED, privacy=privacy, optim=dpft.Optim(learning_rate=0.1))
    batch = {
        "input_ids": torch.tensor([[3, 9, 9], [4, 9, 9]]),
        "attention_mask": torch.ones(2, 3, dtype=torch.long),
    }
    assert result.model(**batch).logits.argmax(1).tolist() == [0, 1]


def test_texts_without_a_tokenizer_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tokenizer"):
        dpft.fit(
            build(),
            [{"text": "a", "label": 0}] * RECORDS,
            loss=Classification(),
            privacy=dpft.Privacy(epsilon=3, delta=1e-3, expected_batch_size=20, steps=1),
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_no_records_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="num_records"):
        dpft.fit(
            build(),
            [],
            loss=Classification(),
            privacy=dpft.Privacy(epsilon=3, delta=1e-3, expected_batch_size=20, steps=1),
        )


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("another run", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="absent or empty"):
        fit(out=tmp_path)


def test_a_loss_that_couples_records_writes_nothing_of_a_model(tmp_path: Path) -> None:
    def coupled(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        losses = Classification()(model, batch)
        return losses - losses.mean()

    with pytest.raises(BrokenGuaranteeError):
        fit(loss=coupled, out=tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_model_of_an_earlier_run_is_composed_with_it() -> None:
    first = fit()
    second = again(first.model)
    assert len(second.certificate.runs) == 2
    assert second.certificate == first.certificate.with_release(second.run)
    assert second.epsilon == epsilon(
        [first.plan.mechanism(STEPS), second.plan.mechanism(1)], second.delta
    )
    third = again(second.model)
    assert {run.run_id for run in third.certificate.runs} > set(second.run.inputs[0].runs)
    assert len(third.certificate.runs) == 3


def test_a_new_run_cannot_promise_anything_on_top_of_one_that_did_not(tmp_path: Path) -> None:
    naked = fit(PINNED)
    with pytest.raises(BrokenGuaranteeError, match="finite epsilon"):
        again(naked.model, out=tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()


def test_the_report_of_a_composed_run_states_all_of_it(tmp_path: Path) -> None:
    second = again(fit().model, out=tmp_path / "run")
    assert second.report is not None
    page = second.report.read_text(encoding="utf-8")
    assert f"epsilon = {rounded_up(second.epsilon)} at" in page
    assert "| Earlier runs counted | 1," in page


def test_a_model_of_a_run_that_crashed_is_refused() -> None:
    model = build()
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=3)

    def crash(_: Progress) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        dpft.fit(
            model,
            records(),
            loss=Classification(),
            privacy=privacy,
            adapter=LORA,
            on_step=crash,
        )
    with pytest.raises(BrokenGuaranteeError, match="no run has trained"):
        dpft.fit(model, records(), loss=Classification(), privacy=privacy)


def test_a_model_whose_run_was_refused_before_its_first_step_can_be_used_again() -> None:
    model = build()
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=1)

    def coupled(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        losses = Classification()(model, batch)
        return losses - losses.mean()

    with pytest.raises(BrokenGuaranteeError, match="preflight"):
        dpft.fit(model, records(), loss=coupled, privacy=privacy)
    assert dpft.fit(model, records(), loss=Classification(), privacy=privacy).epsilon > 0


def test_nothing_but_public_numbers_is_in_the_certificate() -> None:
    (run,) = json.loads(fit().certificate.to_json())["runs"]
    assert run["num_records"] == RECORDS
    assert set(run) == {
        "accountant",
        "adjacency",
        "clip_norm",
        "clipping",
        "dataset_id",
        "delta",
        "divisor",
        "excluded",
        "expected_batch_size",
        "generator",
        "inputs",
        "ledger",
        "mechanism",
        "num_records",
        "partition",
        "private",
        "run_id",
        "sampler",
        "selection",
        "unit",
        "uses",
        "versions",
    }


def test_a_head_that_is_not_there_cannot_be_frozen() -> None:
    headless = LoraConfig(target_modules=["query"], r=2)
    with pytest.raises(ConfigurationError, match="train_head=False"):
        fit(FitOptions(train_head=False), adapter=headless)


def test_an_input_of_unknown_origin_leaves_no_guarantee(tmp_path: Path) -> None:
    unknown = Input(name="class weights", role=InputRole.OTHER, status=InputStatus.UNKNOWN)
    result = fit(FitOptions(declared=(unknown,)), out=tmp_path / "run")
    assert unknown in result.run.inputs
    assert result.epsilon == math.inf
    assert result.report is not None
    assert result.report.read_text(encoding="utf-8").startswith("**NOT PRIVATE**")
    declared = dataclasses.replace(unknown, status=InputStatus.PUBLIC)
    assert fit(FitOptions(declared=(declared,))).epsilon < math.inf
