"""A script with `transformers.Trainer` and PEFT that was made private by its class."""

# ruff: noqa: ARG002 - transformers names the arguments of events

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import peft
import pytest
import tokenizers
import torch
import transformers
from torch import nn
from transformers import Trainer, TrainerCallback

import dpft
from dpft.accounting import Certificate
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.ledger.ledger import Ledger
from dpft.accounting.ledger.summary import DatasetSummary, summarise
from dpft.bridges.trainer import DPTrainer
from dpft.bridges.trainer_model import loss_for
from dpft.errors import BrokenGuaranteeError
from dpft.losses import CausalLanguageModelling, Classification
from dpft.optim import Optim, OptimizerName
from dpft.performance import Performance
from dpft.privacy import EvaluationStatus
from dpft.private_step import StepSettings
from dpft.randomness import PinnedRandomness
from dpft.records import EncodingSettings
from dpft.training import FitOptions
from dpft.verification import verify

STEPS, EXPECTED = 6, 20
STEP = StepSettings(randomness=PinnedRandomness(3))
NIL = 1e-9  # noise as good as none
Make = Callable[..., DPTrainer]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


class Watch(TrainerCallback):
    """Counts events and keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.logs: list[dict[str, Any]] = []
        self.stop_at = self.interrupt_at = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append(f"train begins at {state.global_step} of {state.max_steps}")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append("epoch begins")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append("epoch ends")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append("step begins")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append(f"step {state.global_step}")
        control.should_training_stop |= state.global_step == self.stop_at
        if state.global_step == self.interrupt_at:
            raise KeyboardInterrupt

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append(f"save {state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append("train ends")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))


def weights(of: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().double().flatten() for p in of.parameters() if p.requires_grad])


def charged_in(place: Path) -> DatasetSummary:
    """Return what the ledger of a test's runs says, at the delta of the runs."""
    with Ledger.open(place / "all" / "dpft-ledger.sqlite") as ledger:
        return summarise(ledger.state, "unnamed", 1e-3)


def folder(of: DPTrainer) -> Path:
    return Path(of.args.output_dir)


@pytest.mark.parametrize(
    ("method", "loss"), [("lora", Classification()), ("prompt", CausalLanguageModelling())]
)
def test_the_weights_are_those_of_fit(
    trainer: Make, model: Any, records: Any, privacy: Any, pinned: Any, method: str, loss: Any
) -> None:
    private = trainer(method=method)
    private.train()
    same = model(method)
    same.config.use_cache = False  # as every Trainer does; it moves the last bit
    reference = dpft.fit(
        same,
        records(method),
        loss=loss,
        privacy=privacy,
        optim=Optim(name=OptimizerName.ADAMW, learning_rate=0.05),
        performance=Performance(token_budget=10**9, max_physical_batch=8),
        options=pinned,
    )
    assert isinstance(private, Trainer)
    assert torch.equal(weights(private.model), weights(reference.model))
    assert not torch.equal(weights(private.model), weights(model(method)))


@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_an_update_never_exceeds_the_clip_norm_for_one_record_when_noise_is_nil(
    trainer: Make, records: Any, privacy: Any, model: Any, method: str
) -> None:
    rows = records(method)
    plan = {"noise_multiplier": NIL, "expected_batch_size": len(rows), "steps": 1}
    changes = {**plan, "num_records": len(rows)}
    settings = {
        "privacy": dataclasses.replace(privacy, **changes),
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "learning_rate": 1.0,
        "loss": lambda model, batch: 1e6 * loss_for(model)(model, batch),
    }
    start = weights(model(method))
    both = []
    for name, chosen in (("all", rows), ("one missing", rows[1:])):
        built = model(method, dropout=0.0)  # masks belong to positions in the batch
        private = trainer(name, method, model=built, train_dataset=chosen, **settings)
        private.train()
        both.append((start - weights(private.model)) * len(rows))
    difference = (both[0] - both[1]).norm()
    assert 0.9 * privacy.clip_norm < difference <= privacy.clip_norm
    assert both[0].norm() <= privacy.clip_norm * len(rows)


def test_epsilon_is_the_same_in_certificate_log_and_ledger(trainer: Make, tmp_path: Path) -> None:
    watch = Watch()
    private = trainer(callbacks=[watch], options=FitOptions())
    done = private.train()
    result = private.result
    text = (folder(private) / "certificate.json").read_text(encoding="utf-8")
    epsilon = Certificate.from_json(text).epsilon(result.delta)
    assert done.metrics["epsilon"] == epsilon == result.epsilon < 10
    assert [logs["epsilon"] for logs in watch.logs][-2:] == [epsilon, epsilon]
    charged = charged_in(tmp_path)
    assert charged.planned_epsilon == epsilon
    assert [(run.intended, run.settled) for run in charged.runs] == [(STEPS, True)]


def test_callbacks_are_called_once_for_each_logical_step(trainer: Make) -> None:
    watch = Watch()
    private = trainer(callbacks=[watch], save_strategy="steps", save_steps=4)
    private.train()
    epoch = "epoch begins"
    taken = [each for step in range(1, STEPS + 1) for each in ("step begins", f"step {step}")]
    saved = [*taken[:8], "save 4", "epoch ends", epoch, *taken[8:], f"save {STEPS}"]
    begun = [f"train begins at 0 of {STEPS}", epoch]
    assert watch.events == [*begun, *saved, "epoch ends", "train ends"]
    assert private.state.epoch == STEPS / 4  # an epoch has 80 / 20 steps


def test_nothing_raw_reaches_a_callback_or_the_state(trainer: Make) -> None:
    watch = Watch()
    private = trainer(callbacks=[watch], save_strategy="steps", save_steps=3)
    done = private.train()
    allowed = {"epsilon", "learning_rate", "epoch"}
    assert len(watch.logs) == STEPS // 2 + 1
    assert all(logs.keys() <= allowed for logs in watch.logs)
    assert all(logs.keys() <= {*allowed, "step"} for logs in private.state.log_history)
    assert math.isnan(done.training_loss)
    assert done.metrics.keys() == {"epsilon", "delta", "train_samples_per_second"}
    state = json.loads((folder(private) / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["total_flos"] == state["num_input_tokens_seen"] == 0
    assert all(entry.keys() <= {*allowed, "step"} for entry in state["log_history"])


def test_the_logged_learning_rate_is_that_of_the_schedule(trainer: Make) -> None:
    watch = Watch()
    trainer(callbacks=[watch], logging_steps=1, warmup_steps=2, lr_scheduler_type="linear").train()
    rates = [logs["learning_rate"] for logs in watch.logs[:-1]]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.0375, 0.025, 0.0125])


def test_a_run_that_a_callback_stops_is_charged_whole(trainer: Make, tmp_path: Path) -> None:
    watch = Watch()
    watch.stop_at = 2
    private = trainer(callbacks=[watch], options=FitOptions())
    assert private.train().global_step == 2
    result = private.result
    assert dataclasses.astuple(result.history) == (1, STEPS, 2)
    assert result.run.mechanism == result.plan.mechanism(STEPS)
    lines = (folder(private) / "charges.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1]) == {"intend": STEPS}
    charged = charged_in(tmp_path)
    assert [run.intended for run in charged.runs] == [STEPS]


def test_speed_counts_the_steps_that_were_taken(
    trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    watch.stop_at = 2
    clock = types.SimpleNamespace(monotonic=iter([0.0, 10.0]).__next__)
    monkeypatch.setattr("dpft.loop.time", clock)
    assert trainer(callbacks=[watch]).train().metrics["train_samples_per_second"] == 4


def test_a_second_run_has_a_schedule_of_its_own(trainer: Make) -> None:
    plain = dpft.Privacy(mode="not_private", delta=1e-3, expected_batch_size=EXPECTED, steps=STEPS)
    private = trainer(privacy=plain, options=FitOptions(), logging_steps=1)
    told = []
    for name in ("first", "second"):
        private.args.output_dir = f"{private.args.output_dir}-{name}"
        private.train()
        told.append([logs.get("learning_rate") for logs in private.state.log_history])
    assert told[0] == told[1]
    assert told[0][0] == 0.05


def test_resuming_at_a_checkpoint_is_as_no_interruption(trainer: Make) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2}
    whole = trainer("whole", **settings)
    whole.train()
    watch, again = Watch(), Watch()
    watch.interrupt_at = 5
    cut = trainer("cut", callbacks=[watch], **settings)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    lost = trainer("cut", callbacks=[again], **settings)  # step 5 was charged after checkpoint 4
    lost.train(resume_from_checkpoint=True)
    assert dataclasses.astuple(lost.result.history) == (2, STEPS, STEPS - 1)
    assert again.events[0] == f"train begins at 5 of {STEPS}"
    assert [entry["step"] for entry in lost.state.log_history] == [2, 4, 6, 6]
    assert not torch.equal(weights(lost.model), weights(whole.model))


def test_an_interruption_right_at_a_checkpoint_changes_nothing(trainer: Make) -> None:
    class AfterSaving(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise KeyboardInterrupt

    settings = {"save_strategy": "steps", "save_steps": 4}
    whole = trainer("whole", **settings)
    whole.train()
    cut = trainer("cut", callbacks=[AfterSaving()], **settings)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    resumed = trainer("cut", **settings)
    resumed.train(resume_from_checkpoint=str(folder(cut) / "checkpoint-4"))
    assert torch.equal(weights(resumed.model), weights(whole.model))
    assert dataclasses.astuple(resumed.result.history) == (2, STEPS, STEPS)


def test_a_checkpoint_of_the_trainer_is_certified_for_the_whole_plan(trainer: Make) -> None:
    private = trainer(save_strategy="epoch", save_total_limit=1, options=FitOptions())
    private.train()
    saved = sorted(path.name for path in folder(private).glob("checkpoint-*"))
    assert saved == [f"checkpoint-{STEPS}"]  # of 4 and 6
    found = verify(folder(private) / saved[0], ledger=lambda _: True)
    assert all(finding.passed for finding in found)
    checkpoint = folder(private) / saved[0] / "certificate.json"
    assert Certificate.from_json(checkpoint.read_text()) == private.result.certificate


def test_an_early_checkpoint_claims_no_less_than_the_whole_plan(trainer: Make) -> None:
    private = trainer(save_strategy="steps", save_steps=2)
    private.train()
    text = (folder(private) / "checkpoint-2" / "certificate.json").read_text(encoding="utf-8")
    assert Certificate.from_json(text) == private.result.certificate
    with pytest.raises(BrokenGuaranteeError, match="between the steps"):
        private._save_checkpoint(private.model, None)  # what changed since has no certificate


def test_plain_peft_loads_what_was_saved(trainer: Make, model: Any, tmp_path: Path) -> None:
    private = trainer(options=FitOptions())
    private.train()
    private.save_model()
    private.save_model(str(tmp_path / "saved"))
    batch = {"input_ids": torch.tensor([[3, 6, 7]]), "attention_mask": torch.ones(1, 3).long()}
    for place in (tmp_path / "saved", folder(private) / "adapter"):
        loaded = peft.PeftModel.from_pretrained(model("lora").unload(), place).eval()
        assert torch.equal(loaded(**batch).logits, private.model(**batch).logits)
    for place in (tmp_path / "saved", folder(private)):
        assert all(finding.passed for finding in verify(place, ledger=lambda _: True))


def test_a_data_set_and_a_list_give_the_same(trainer: Make, records: Any) -> None:
    rows = [{**row, "text": "unused", "label": row["labels"]} for row in records()]
    for row in rows:
        del row["labels"]
    data = datasets.Dataset.from_list(rows)
    private = [
        trainer("list"),
        trainer("data", train_dataset=data),
        trainer("tensors", train_dataset=data.with_format("torch")),
    ]
    for each in private:
        each.train()
    one, *others = [weights(each.model) for each in private]
    assert all(torch.equal(one, other) for other in others)


def test_the_collator_makes_the_physical_batches(trainer: Make, records: Any) -> None:
    sizes = []

    def pads(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        sizes.append(len(rows))
        longest = max(len(row["input_ids"]) for row in rows)
        fill = [[0] * (longest - len(row["input_ids"])) for row in rows]
        both = zip(rows, fill, strict=True)
        padded = [(row["input_ids"] + zeros, row["attention_mask"] + zeros) for row, zeros in both]
        ids, mask = zip(*padded, strict=True)
        labels = torch.tensor([row["label"] for row in rows])
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.tensor(mask),
            "labels": labels,
        }

    named = [{("label" if k == "labels" else k): v for k, v in row.items()} for row in records()]
    trainer(train_dataset=named, data_collator=pads, per_device_train_batch_size=3).train()
    assert max(sizes) == 3
    assert sum(sizes) > STEPS * EXPECTED / 2


def test_the_trainers_optimizer_and_schedule_are_used(trainer: Make, model: Any) -> None:
    trained = model("lora")
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3)
    watch = Watch()
    settings = {"optimizers": (optimizer, schedule), "callbacks": [watch], "logging_steps": 1}
    trainer(model=trained, **settings).train()
    rates = [logs["learning_rate"] for logs in watch.logs[:-1]]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_metrics_need_records_declared_public(trainer: Make, privacy: Any, records: Any) -> None:
    rows = records()
    silent = trainer("silent", eval_dataset=rows[:1] * 4)
    for call in (silent.evaluate, lambda: silent.predict(rows[:1])):
        with pytest.raises(dpft.errors.ConfigurationError, match="evaluation=None to be public"):
            call()
    public = dataclasses.replace(privacy, evaluation=EvaluationStatus.PUBLIC)
    private = trainer("public", eval_dataset=rows[:1] * 4, privacy=public, train_dataset=rows)
    assert "eval_loss" in private.evaluate()
    assert private.predict(rows[:1] * 4).predictions.shape == (4, 2)
    private.eval_dataset = {"seen": rows}
    for asked in (rows, None, "seen"):
        with pytest.raises(dpft.errors.ConfigurationError, match="train_dataset"):
            private.evaluate(asked)


def test_evaluating_on_the_way_changes_no_weight(trainer: Make, privacy: Any, records: Any) -> None:
    public = dataclasses.replace(privacy, evaluation=EvaluationStatus.PUBLIC)
    watch = Watch()
    settings = {"privacy": public, "eval_dataset": records()[:1] * 4}
    often = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True}
    seen = trainer("seen", callbacks=[watch], **settings, **often)
    blind = trainer("blind", **settings)
    seen.train()
    blind.train()
    assert sum("eval_loss" in logs for logs in watch.logs) == 1 + STEPS // 2
    assert torch.equal(weights(seen.model), weights(blind.model))
    excluded = " ".join(seen.result.run.excluded)
    assert "Held-out records" in excluded


def test_bfloat16_is_used_where_asked_for(trainer: Make) -> None:
    seen = []

    def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return Classification()(model, batch)

    private = trainer("low", bf16=True, loss=loss)
    private.train()
    full = trainer("full")
    full.train()
    assert all(seen)
    assert not torch.equal(weights(private.model), weights(full.model))
    assert torch.allclose(weights(private.model), weights(full.model), atol=0.05)


def test_owners_are_a_column_of_the_data_set(trainer: Make, records: Any, privacy: Any) -> None:
    rows = [{**row, "user": f"u{index // 2}"} for index, row in enumerate(records())]
    users = dataclasses.replace(privacy, unit="user")
    options = FitOptions(step=STEP, encoding=EncodingSettings(user_field="user"))
    private = trainer(train_dataset=rows, privacy=users, options=options)
    private.train()
    assert private.result.plan.length.num_records == 40
    assert private.state.epoch == STEPS / 2


def test_a_tokenizer_pads_and_its_origin_is_declared(trainer: Make, records: Any) -> None:
    words = {f"w{number}": number for number in range(30)}
    model = tokenizers.models.WordLevel(words, unk_token="w1")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model), pad_token="w0"
    )
    rows = [{"input_ids": row["input_ids"], "label": row["labels"]} for row in records()]
    settings = {"train_dataset": rows, "processing_class": tokenizer, "model": None}
    with pytest.raises(BrokenGuaranteeError, match="unnamed tokenizer"):
        trainer("undeclared", **settings).train()
    public = Input(name="unnamed tokenizer", role=InputRole.VOCABULARY, status=InputStatus.PUBLIC)
    private = trainer("declared", **settings, options=FitOptions(step=STEP, declared=(public,)))
    private.train()
    private.save_model()
    private.save_model(str(folder(private) / "adapter"))  # where it is already
    assert isinstance(private.data_collator, transformers.DataCollatorWithPadding)
    assert (folder(private) / "adapter" / "tokenizer.json").is_file()
    assert private.model.config.pad_token_id == 0


def test_a_processor_hides_no_vocabulary(trainer: Make) -> None:
    class Processor(transformers.ProcessorMixin):
        def __init__(self, tokenizer: Any) -> None:
            self.tokenizer = tokenizer

    learnt = tokenizers.Tokenizer(tokenizers.models.WordLevel({"w0": 0, "w1": 1}, unk_token="w1"))
    held = transformers.PreTrainedTokenizerFast(tokenizer_object=learnt, pad_token="w0")
    with pytest.raises(BrokenGuaranteeError, match="unnamed tokenizer"):
        trainer(processing_class=Processor(held)).train()
    for unseen in (Processor(None), object()):
        with pytest.raises(dpft.errors.ConfigurationError, match="processing_class"):
            trainer(processing_class=unseen)


def test_activation_checkpointing_is_switched_on(trainer: Make, model: Any) -> None:
    settings: dict[str, Any] = {"activation_checkpointing": True}
    settings |= {"activation_checkpointing_kwargs": {"use_reentrant": False}}
    private = trainer("checkpointed", model=model("lora", dropout=0.0), **settings)
    private.train()
    assert private.model.get_base_model().is_activation_checkpointing
    usual = trainer("usual", model=model("lora", dropout=0.0))
    usual.train()
    assert torch.allclose(weights(private.model), weights(usual.model), atol=1e-5)
