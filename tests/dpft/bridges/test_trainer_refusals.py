"""What would void the guarantee, or be ignored, raises before a private Trainer's first step."""

# ruff: noqa: ARG002 - transformers names the arguments of events

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import dpft
from dpft.bridges.trainer import DPTrainer
from dpft.bridges.trainer_arguments import HONOURED, REFUSED, WITHOUT_EFFECT, argument_problems
from dpft.bridges.trainer_model import loss_for
from dpft.bridges.trainer_records import collator_problems
from dpft.bridges.trainer_refusals import refuse_untested
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.losses import CausalLanguageModelling, Classification, Regression, SequenceToSequence

Make = Callable[..., DPTrainer]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
ASKED = {
    "auto_find_batch_size": True,
    "bf16_full_eval": True,
    "data_seed": 3,
    "dataloader_drop_last": True,
    "debug": "underflow_overflow",
    "enable_jit_checkpoint": True,
    "gradient_accumulation_steps": 2,
    "include_num_input_tokens_seen": True,
    "label_smoothing_factor": 0.1,
    "load_best_model_at_end": True,
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "max_grad_norm": 0.5,
    "neftune_noise_alpha": 5.0,
    "optim": "adafactor",
    "optim_args": "a=1",
    "optim_target_modules": "all-linear",
    "push_to_hub": True,
    "save_only_model": True,
    "save_strategy": "best",
    "skip_memory_metrics": False,
    "torch_compile_mode": "default",
    "torch_empty_cache_steps": 3,
    "train_sampling_strategy": "group_by_length",
    "use_liger_kernel": True,
}
# set on finished arguments: to ask for them needs a device, or another package
SET_LATER = {
    "deepspeed": {"zero_optimization": {}},
    "fp16": True,
    "fp16_full_eval": True,
    "fsdp": "full_shard",
    "parallelism_config": object(),
    "torch_compile": True,
    "torch_compile_backend": "inductor",
}


def of(trainer: Make, **settings: Any) -> str:
    """Return what a Trainer is refused for."""
    with pytest.raises(ConfigurationError) as refused:
        trainer(**settings)
    return str(refused.value)


@pytest.mark.parametrize("name", ASKED)
def test_what_would_void_the_guarantee_is_refused(
    arguments: Any, privacy: Any, name: str, tmp_path: Path
) -> None:
    needs = {"eval_strategy": "no"}
    if name in {"lr_scheduler_type", "load_best_model_at_end"}:
        needs = {"eval_strategy": "steps", "save_strategy": "steps"}
    if name == "save_strategy":
        needs |= {"metric_for_best_model": "loss"}
    args = arguments(tmp_path, **{**needs, name: ASKED[name]})
    public = dataclasses.replace(privacy, evaluation="public")
    problems = argument_problems(args, public)
    assert any(f"args.{name}=" in problem for problem in problems)
    assert all("Expected" in problem for problem in problems)


@pytest.mark.parametrize("name", SET_LATER)
def test_what_is_set_on_finished_arguments_is_refused(
    arguments: Any, privacy: Any, name: str, tmp_path: Path
) -> None:
    args = arguments(tmp_path)
    assert not argument_problems(args, privacy)
    setattr(args, name, SET_LATER[name])
    assert any(f"args.{name}=" in problem for problem in argument_problems(args, privacy))


def test_every_refusal_is_tried() -> None:
    assert ASKED.keys() | SET_LATER.keys() == REFUSED.keys()


def test_every_field_of_the_arguments_is_known(repository: Path) -> None:
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    classes = [HONOURED, WITHOUT_EFFECT, frozenset(REFUSED), {"accelerator_config"}]
    assert sum(map(len, classes)) == len(set().union(*classes))  # each in one of them
    assert set().union(*classes) == fields
    page = (repository / "docs" / "trainer.md").read_text(encoding="utf-8")
    assert not [name for name in sorted(fields) if f"`{name}`" not in page]


def test_a_field_that_is_not_known_keeps_its_default(privacy: Any, tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Packing(TrainingArguments):
        packing: bool = False

    plain = {"output_dir": str(tmp_path), "report_to": "none", "use_cpu": True}
    assert not argument_problems(Packing(**plain), privacy)
    (problem,) = argument_problems(Packing(**plain, packing=True), privacy)
    assert "args.packing=True" in problem


def test_the_arguments_of_accelerate_are_refused(
    arguments: Any, privacy: Any, tmp_path: Any
) -> None:
    args = arguments(tmp_path, accelerator_config={"split_batches": True})
    (problem,) = argument_problems(args, privacy)
    assert "split_batches" in problem


def test_the_length_is_that_of_privacy(trainer: Make, privacy: Any, tmp_path: Path) -> None:
    assert "args.max_steps=7" in of(trainer, max_steps=7)
    assert "args.num_train_epochs=2" in of(trainer, num_train_epochs=2)
    epochs = dataclasses.replace(privacy, steps=None, epochs=2)
    assert "args.num_train_epochs=5" in of(trainer, privacy=epochs, num_train_epochs=5)
    private = trainer(privacy=epochs, num_train_epochs=2, max_steps=7)
    with pytest.raises(ConfigurationError, match="planned steps=8"):
        private.train()
    assert not any(Path(private.args.output_dir).iterdir())


def test_several_processes_are_refused(
    arguments: Any, privacy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(tmp_path)
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")  # accelerate would start others before
    (problem,) = argument_problems(args, privacy)
    assert "one process on one device" in problem


def test_all_problems_are_told_at_once(trainer: Make) -> None:
    told = of(trainer, max_grad_norm=2.0, label_smoothing_factor=0.1, data_seed=1)
    assert told.count("Expected args.") == 3


def test_what_was_changed_after_the_start_is_refused_too(trainer: Make) -> None:
    private = trainer()
    private.args.gradient_accumulation_steps = 4
    private.compute_loss = lambda *_: None
    with pytest.raises(ConfigurationError) as refused:
        private.train()
    assert "gradient_accumulation_steps=4" in str(refused.value)
    assert "compute_loss not to be overridden" in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "_clip_grad_norm",
        "_get_train_sampler",
        "_prepare_inputs",
        "compute_loss",
        "create_optimizer",
        "push_to_hub",
        "train",
        "training_step",
    ],
)
def test_overridden_methods_are_refused(trainer: Make, name: str) -> None:
    own = type("Own", (DPTrainer,), {name: lambda *_: None})
    assert f"Own.{name} not to be overridden" in of(trainer, kind=own)


def test_a_callback_before_the_optimizer_is_refused(trainer: Make) -> None:
    class Clips(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            pass

    assert "callback=Clips" in of(trainer, callbacks=[Clips()])
    late = trainer()
    late.add_callback(Clips())
    with pytest.raises(ConfigurationError, match="callback=Clips"):
        late.train()


def test_what_only_a_batch_loss_needs_is_refused(model: Any, arguments: Any, privacy: Any) -> None:
    def build(**given: Any) -> str:
        with pytest.raises(ConfigurationError) as refused:
            DPTrainer(model("lora"), privacy=privacy, **given)
        return str(refused.value)

    def one_number(*_: Any) -> torch.Tensor:
        return torch.zeros(())

    quiet = arguments("unused", save_strategy="no")
    assert "compute_loss_func" in build(args=quiet, compute_loss_func=one_number)
    schedule = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)]), 1)
    assert "optimizers" in build(args=quiet, optimizers=(None, schedule))
    options = dpft.training.FitOptions(resume=True)
    assert "options.resume" in build(args=quiet, options=options)


def test_the_searching_loading_and_stepping_of_trainer_are_refused(trainer: Make) -> None:
    private = trainer()
    with pytest.raises(ConfigurationError, match="dpft tune"):
        private.hyperparameter_search()
    with pytest.raises(ConfigurationError, match="dpft tune"):
        private.train(trial={"learning_rate": 1.0})
    with pytest.raises(BrokenGuaranteeError, match="Poisson"):
        private.get_train_dataloader()
    with pytest.raises(BrokenGuaranteeError, match="whole batch"):
        private.training_step(private.model, {})
    with pytest.raises(ConfigurationError, match="save_model"):
        private.save_model()
    with pytest.raises(ConfigurationError, match="upload that folder"):
        private.push_to_hub()


def test_the_models_own_loss_is_refused(trainer: Make) -> None:
    def mean(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return model(**batch).loss.expand(len(batch["labels"]))

    private = trainer(method="prompt", loss=mean)
    with pytest.raises(BrokenGuaranteeError):
        private.train()
    assert not (Path(private.args.output_dir) / "charges.jsonl").exists()


def test_a_collator_that_joins_records_is_refused(trainer: Make) -> None:
    def packs(rows: Any) -> dict[str, torch.Tensor]:
        ids = torch.tensor([token for row in rows for token in row["input_ids"]])
        return {"input_ids": ids.unsqueeze(0), "labels": ids.unsqueeze(0)}

    with pytest.raises(BrokenGuaranteeError, match="data_collator"):
        trainer(method="prompt", data_collator=packs).train()
    flat = transformers.DataCollatorWithFlattening()
    assert "to pad" in of(trainer, data_collator=flat)


def test_random_masks_are_refused() -> None:
    class Masks:
        mlm = True

    (problem,) = collator_problems(Masks())
    assert "mlm=False" in problem


@pytest.mark.parametrize("data", [None, iter([]), [], [{"text": "a"}], [(1, 2)]])
def test_records_without_positions_or_words_are_refused(trainer: Make, data: Any) -> None:
    with pytest.raises(ConfigurationError, match="train_dataset"):
        trainer(train_dataset=data, max_steps=6).train()


def test_an_evaluation_on_the_way_needs_public_records(trainer: Make, records: Any) -> None:
    settings = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": records()[:2]}
    assert "privacy.evaluation=None to be public" in of(trainer, **settings)


def test_an_epoch_cannot_be_cut_short(trainer: Make) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_epoch_stop = True

    with pytest.raises(ConfigurationError, match="should_epoch_stop"):
        trainer(callbacks=[Stops()]).train()


def test_a_second_run_in_one_folder_is_refused(trainer: Make) -> None:
    private = trainer()
    private.train()
    for again in (private, trainer()):
        with pytest.raises(ConfigurationError, match="output_dir"):
            again.train()


def test_going_back_to_an_older_checkpoint_is_refused(trainer: Make) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 5:
                raise KeyboardInterrupt

    private = trainer(save_strategy="steps", save_steps=2, callbacks=[Stops()])
    with pytest.raises(KeyboardInterrupt):
        private.train()
    again = trainer(save_strategy="steps", save_steps=2)
    for name in ("checkpoint-2", "checkpoint-6"):
        older = Path(private.args.output_dir) / name
        for asked in (str(older), older):
            with pytest.raises(ConfigurationError, match="newest"):
                again.train(resume_from_checkpoint=asked)


def test_a_run_is_resumed_with_its_own_optimizer(trainer: Make) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(callbacks=[Stops()]).train()
    with pytest.raises(ConfigurationError, match="optim"):
        trainer(learning_rate=0.01).train(resume_from_checkpoint=True)
    assert trainer().train(resume_from_checkpoint=True).global_step == 6


def test_another_release_of_transformers_is_refused() -> None:
    refuse_untested("5.23.4")
    for version in ("5.22.1", "5.24.0", "4.57.0", "5.24.0.dev0"):
        with pytest.raises(ConfigurationError, match="Install a release"):
            refuse_untested(version)


def test_the_loss_follows_from_the_head(model: Any) -> None:
    class Head:
        def __init__(self, name: str, labels: int = 2, problem: str | None = None) -> None:
            self.__class__ = type(name, (), {})
            self.config = type("C", (), {"num_labels": labels, "problem_type": problem})

    assert loss_for(model("lora")) == Classification()
    assert loss_for(model("prompt")) == CausalLanguageModelling()
    assert loss_for(Head("T5ForConditionalGeneration")) == SequenceToSequence()
    assert loss_for(Head("BertForSequenceClassification", labels=1)) == Regression()
    for other in (
        Head("BertForMaskedLM"),
        Head("BertForSequenceClassification", problem="multi_label_classification"),
        Head("BertForSequenceClassification", problem="regression"),
        Head("MyOwnForSequenceClassification"),
    ):
        with pytest.raises(ConfigurationError, match="Pass loss"):
            loss_for(other)


def test_it_is_a_trainer(trainer: Make) -> None:
    assert isinstance(trainer(), Trainer)
