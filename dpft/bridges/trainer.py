"""The bridge to `transformers.Trainer`: a script becomes private by its class and a `Privacy`.

The Trainer keeps its arguments, callbacks, optimiser, schedule and evaluation. Loss, sampling,
clipping, noise, accounting, charges and artefacts are those of `dpft.fit`. It is a subclass, since
scripts and callbacks ask for a Trainer; `docs/trainer.md` says what it honours and refuses.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import PredictionOutput, TrainOutput

from dpft.bridges.trainer_arguments import argument_problems, evaluation_problem, steps_problem
from dpft.bridges.trainer_folder import copy_adapter, newest_checkpoint, write_checkpoint
from dpft.bridges.trainer_model import UnderAutocast, loss_for, prepare_model, tokenizer_of
from dpft.bridges.trainer_optimisation import optimisation_of
from dpft.bridges.trainer_records import (
    Collator,
    TrainerRecords,
    collator_problems,
    planned_steps,
    synthetic_for,
)
from dpft.bridges.trainer_refusals import (
    SEARCH,
    callback_problems,
    given_problems,
    overridden_problems,
    refuse_untested,
)
from dpft.engine.attachment import PerRecordLoss
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.loop import LoopParts, Standing
from dpft.optimisation import Optimisation
from dpft.performance import Performance
from dpft.privacy import EvaluationStatus, Privacy, PrivacyPlan
from dpft.progress import Progress
from dpft.training import FitOptions, FitResult, fit

__all__ = ["DPTrainer"]

_REPLACED = (
    "_clip_grad_norm",
    "_finalize_training",
    "_get_train_sampler",
    "_inner_training_loop",
    "_load_from_checkpoint",
    "_maybe_log_save_evaluate",
    "_prepare_for_training",
    "_prepare_inputs",
    "_run_epoch",
    "_save",
    "_save_checkpoint",
    "autocast_smart_context_manager",
    "compute_loss",
    "compute_loss_context_manager",
    "create_optimizer",
    "create_optimizer_and_scheduler",
    "create_scheduler",
    "get_batch_samples",
    "get_train_dataloader",
    "hyperparameter_search",
    "push_to_hub",
    "save_model",
    "train",
    "training_step",
)


@dataclasses.dataclass(frozen=True)
class _Calls:
    """The methods of a Trainer that are called around the steps."""

    begin: Callable[[Standing], None]
    before_step: Callable[[], None]
    after_step: Callable[[Progress], bool]


class DPTrainer(Trainer):
    """A Trainer that trains privately, with the engine of `dpft.fit`.

    The Trainer's arguments keep their meaning, with these exceptions: the logical batch is
    `privacy.expected_batch_size`, and `per_device_train_batch_size` the largest physical one; the
    length is that of `privacy`; `output_dir` is the run folder; the training loss is never shown.
    After training `result` is what `dpft.fit` returns.

    Args:
        model: A model of transformers with its adapter; what requires a gradient is trained.
        args: Arguments; what the engine cannot do of them is refused.
        positional: Further arguments of Trainer, in its order.
        privacy: The guarantee asked for.
        loss: Callable (model, batch) -> losses [B], each of its own record only; unset: by the
            model's head (`dpft.bridges.trainer_model.loss_for`).
        options: As for `dpft.fit`: column of owners, earlier runs, declarations, notes.
        others: Further arguments of Trainer, by name.

    Raises:
        ConfigurationError: If anything asked for would void the guarantee, or be ignored; all
            problems at once.

    Privacy:
        That of `dpft.fit`: one record (or user) changes each noised sum by at most
        `privacy.clip_norm`; released are all iterates and public numbers. Callbacks and trackers
        see steps, epsilon and the learning rate, never a loss, a count or a gradient
        (`test_nothing_raw_reaches_a_callback_or_the_state`). A run that is stopped early is
        charged whole.

    Example:
        >>> import tempfile, dpft
        >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
        >>> from transformers import PrinterCallback
        >>> model = BertForSequenceClassification(
        ...     BertConfig(
        ...         hidden_size=8,
        ...         num_hidden_layers=1,
        ...         num_attention_heads=1,
        ...         intermediate_size=8,
        ...         vocab_size=20,
        ...     )
        ... )
        >>> rows = [{"input_ids": [2 + i % 9, 5, 6], "labels": i % 2} for i in range(40)]
        >>> privacy = dpft.Privacy(
        ...     noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=2
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = TrainingArguments(
        ...         f"{folder}/a/b/run", report_to="none", use_cpu=True, disable_tqdm=True
        ...     )
        ...     trainer = DPTrainer(model, args, train_dataset=rows, privacy=privacy)
        ...     _ = trainer.pop_callback(PrinterCallback)
        ...     trainer.train().global_step
        2
    """

    model: Any

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        *positional: Any,
        privacy: Privacy,
        loss: PerRecordLoss | None = None,
        options: FitOptions | None = None,
        **others: Any,
    ) -> None:
        """Build the Trainer, after a check of what it is asked for."""
        refuse_untested()
        args = args or TrainingArguments(output_dir="tmp_trainer")
        problems = argument_problems(args, privacy)
        if problems:
            raise ConfigurationError(problems)
        self.privacy = privacy
        self.result: FitResult | None = None
        self._options = options or FitOptions()
        self._ignored_keys: list[str] | None = None
        self._resumed_from: str | None = None
        self._standing: Standing | None = None
        self._epoch_length = 1
        self._epoch_is_open = False
        self._learning_rate = math.nan
        super().__init__(model, args, *positional, **others)
        self._require_sound()
        self._loss = loss or loss_for(self.model)

    def train(
        self,
        resume_from_checkpoint: str | os.PathLike[str] | bool | None = None,  # noqa: FBT001 - Trainer's own signature
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train privately.

        Args:
            resume_from_checkpoint: True, or the newest checkpoint of `output_dir`: continue the
                run there, if there is one.
            trial: To be left unset: a search over private records costs privacy.
            ignore_keys_for_eval: As in Trainer.

        Returns:
            Steps taken; NaN in the place of the training loss, which is raw; epsilon, delta and
            the public number of samples a second.

        Raises:
            ConfigurationError: If a setting is wrong.
            BrokenGuaranteeError: If the preflight fails; see `dpft.fit`.

        Privacy:
            See `dpft.fit`.
        """
        self._require_sound([SEARCH] if trial is not None else [])
        records, options = self._records(), self._options
        planned = planned_steps(self.privacy, records, options.encoding.user_field)
        if self.args.max_steps > 0 and self.args.max_steps != planned:
            raise ConfigurationError(steps_problem(self.args.max_steps, planned))
        self._resumed_from = newest_checkpoint(self.args.output_dir, resume_from_checkpoint)
        self._ignored_keys = ignore_keys_for_eval
        prepare_model(self.model, self.args, self._tokenizer())
        low = self.args.mixed_precision == "bf16"
        self.is_in_train = True
        try:
            self.result = fit(
                self.model,
                records,
                loss=UnderAutocast(self._loss, self.args.device.type) if low else self._loss,
                privacy=self.privacy,
                tokenizer=self._tokenizer(),
                performance=Performance(
                    token_budget=sys.maxsize,
                    max_physical_batch=self.args.per_device_train_batch_size,
                ),
                out=self.args.output_dir,
                options=self._fit_options(records, resume=bool(resume_from_checkpoint)),
            )
        finally:
            self.is_in_train, self._standing = False, None
        return self._end(self.result)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate as a Trainer does, on records that were declared public.

        Args:
            eval_dataset: As in Trainer.
            ignore_keys: As in Trainer.
            metric_key_prefix: As in Trainer.

        Returns:
            The metrics.

        Raises:
            ConfigurationError: If `privacy.evaluation` is not public, or these are the training
                records.

        Privacy:
            Metrics have no noise (`test_metrics_need_records_declared_public`).
        """
        asked = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(asked, str) and isinstance(self.eval_dataset, Mapping):
            asked = self.eval_dataset.get(asked)
        self._require_public([*asked.values()] if isinstance(asked, Mapping) else [asked])
        metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if self.is_in_train:
            self.model.train()
        return metrics

    def predict(self, *positional: Any, **named: Any) -> PredictionOutput:
        """Predict as a Trainer does, on records that were declared public.

        Args:
            positional: As in Trainer: the data set comes first.
            named: As in Trainer.

        Returns:
            Predictions and metrics.

        Raises:
            ConfigurationError: As `evaluate`.

        Privacy:
            As `evaluate`.
        """
        self._require_public([*positional, *named.values()])
        predicted = super().predict(*positional, **named)
        if self.is_in_train:
            self.model.train()
        return predicted

    def save_model(
        self,
        output_dir: str | None = None,
        _internal_call: bool = False,  # noqa: FBT001, FBT002 - Trainer's own signature
    ) -> None:
        """Copy the adapter of the run and its certificate into a folder that plain peft loads.

        Args:
            output_dir: The folder; unset: `args.output_dir`.

        Raises:
            ConfigurationError: If the run has not ended, or other tensors lie there.

        Privacy:
            Weights after noise, and public numbers; what was changed in the model since has no
            certificate and is not saved.
        """
        if self.result is None or self.result.adapter_dir is None:
            raise ConfigurationError(
                "Expected train() to have ended before save_model(). Weights are published with "
                "the certificate of a run. Call train() first; its checkpoints are saved by "
                "args.save_strategy."
            )
        copy_adapter(self, self.result.adapter_dir, Path(output_dir or self.args.output_dir or "."))

    def get_train_dataloader(self) -> Any:
        """Refuse: training records are sampled by the engine alone.

        Raises:
            BrokenGuaranteeError: Always.

        Privacy:
            Nothing, no data touched.
        """
        raise BrokenGuaranteeError(
            "Expected nobody to ask for a loader of training records. Epsilon holds for the "
            "engine's own Poisson samples. Call train()."
        )

    def training_step(self, *_: Any, **__: Any) -> torch.Tensor:
        """Refuse: it would form the gradient of a whole batch.

        Raises:
            BrokenGuaranteeError: Always.

        Privacy:
            Nothing, no data touched.
        """
        raise BrokenGuaranteeError(
            "Expected nobody to call training_step. It forms the gradient of a whole batch, which "
            "cannot be clipped. Call train(), or use dpft.PrivateStep in an own loop."
        )

    def push_to_hub(self, *_: Any, **__: Any) -> Any:
        """Refuse: it uploads the whole of `output_dir`, with what callbacks wrote there.

        Raises:
            ConfigurationError: Always.

        Privacy:
            Nothing, no data touched. Times of steps depend on what was sampled.
        """
        raise ConfigurationError(
            "Expected nobody to call push_to_hub(). It uploads all of args.output_dir, with the "
            "times and names that callbacks may have written there, under a card that names no "
            "guarantee. Call save_model(folder), and upload that folder."
        )

    def hyperparameter_search(self, *_: Any, **__: Any) -> Any:
        """Refuse: every trial costs privacy, and so does the choice.

        Raises:
            ConfigurationError: Always.

        Privacy:
            Nothing, no data touched.
        """
        raise ConfigurationError(SEARCH)

    def _require_sound(self, problems: list[str] | None = None) -> None:
        """Raise for all that is wrong with what was passed, or changed since."""
        found = [
            *(problems or []),
            *argument_problems(self.args, self.privacy),
            *overridden_problems(self, DPTrainer, _REPLACED),
            *callback_problems(self.callback_handler.callbacks),
            *collator_problems(self.data_collator),
            *given_problems(self, self._options),
        ]
        if found:
            raise ConfigurationError(found)

    def _require_public(self, asked: Sequence[Any]) -> None:
        if self.privacy.evaluation is not EvaluationStatus.PUBLIC:
            raise ConfigurationError(evaluation_problem(self.privacy))
        if any(each is self.train_dataset for each in asked):
            raise ConfigurationError(
                "Expected metrics on other records than train_dataset. A metric on private "
                "records has no noise. Evaluate on public ones."
            )

    def _records(self) -> TrainerRecords:
        if not self.args.remove_unused_columns:
            return TrainerRecords(self.train_dataset, None)
        self._set_signature_columns_if_needed()
        owner = self._options.encoding.user_field
        kept = {*(self._signature_columns or []), *([] if owner is None else [owner])}
        return TrainerRecords(self.train_dataset, frozenset(kept))

    def _tokenizer(self) -> Any:
        return tokenizer_of(self.processing_class)

    def _fit_options(self, records: TrainerRecords, *, resume: bool) -> FitOptions:
        options = self._options
        owner = options.encoding.user_field
        template = {name: value for name, value in records[0].items() if name != owner}
        synthetic = options.step.synthetic or synthetic_for(template, self.model.config)
        pads = (self.processing_class, self.model.config)
        tokens = [getattr(source, "pad_token_id", None) for source in pads]
        token = next((token for token in tokens if token is not None), 0)
        parts = LoopParts(
            optimisation=self._optimisation,
            collate=Collator(self.data_collator, token),
            observer=_Calls(self._begin, self._before_step, self._after_step),
        )
        return dataclasses.replace(
            options,
            step=dataclasses.replace(options.step, synthetic=synthetic),
            resume=resume,
            checkpoint_every=sys.maxsize,  # the Trainer's own flow says when
            parts=parts,
        )

    def _optimisation(self, _: nn.Module, plan: PrivacyPlan) -> Optimisation:
        """Build the Trainer's optimiser and schedule for the planned steps."""
        if self._created_lr_scheduler:  # by an earlier train(), whose steps it has counted
            self.lr_scheduler, self._created_lr_scheduler = None, False
        given = self.lr_scheduler is not None
        return optimisation_of(self, plan.length.steps, own_schedule=given)

    def _begin(self, standing: Standing) -> None:
        length = standing.plan.length
        self._standing = standing
        self._epoch_length = math.ceil(length.num_records / length.expected_batch_size)
        epochs = math.ceil(length.steps / self._epoch_length)
        self._init_training_state(
            length.steps, self._epoch_length, epochs, self._resumed_from, trial=None
        )
        self.state.global_step = standing.steps_taken
        self.state.epoch = standing.steps_taken / self._epoch_length
        self._globalstep_last_logged = standing.steps_taken
        self._epoch_is_open = False
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        if self.args.eval_on_start:
            self._evaluate(None, self._ignored_keys, skip_scheduler=True)

    def _before_step(self) -> None:
        call = self.callback_handler
        if not self._epoch_is_open:
            self._epoch_is_open = True
            self.control = call.on_epoch_begin(self.args, self.state, self.control)
        self.control = call.on_step_begin(self.args, self.state, self.control)
        self._learning_rate = self._get_learning_rate()

    def _after_step(self, progress: Progress) -> bool:
        call = self.callback_handler
        self.state.global_step = progress.step
        self.state.epoch = progress.step / self._epoch_length
        self.control = call.on_optimizer_step(self.args, self.state, self.control)
        self.control = call.on_step_end(self.args, self.state, self.control)
        self._tell(progress)
        if self.control.should_epoch_stop:
            raise ConfigurationError(
                "Expected no callback to set should_epoch_stop. An epoch is a number of planned "
                "steps, and holds no records to pass over. Set should_training_stop."
            )
        stops = self.control.should_training_stop
        if stops or progress.step % self._epoch_length == 0 or progress.step == progress.steps:
            self._epoch_is_open = False
            self.control = call.on_epoch_end(self.args, self.state, self.control)
            self._tell(progress)
        return not self.control.should_training_stop

    def _tell(self, progress: Progress) -> None:
        """Log, evaluate and save where callbacks ask for it."""
        if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
            self._globalstep_last_logged = self.state.global_step
            self.log({"epsilon": progress.spent_epsilon, "learning_rate": self._learning_rate})
        if self.control.should_evaluate:
            metrics = self._evaluate(None, self._ignored_keys)
            self._determine_best_metric(metrics=metrics, trial=None)
        if self.control.should_save:
            self._save_checkpoint(self.model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ARG002 - Trainer's
        """Write the engine's checkpoint, then a folder with adapter, certificate and state."""
        if self._standing is None:
            raise BrokenGuaranteeError(
                "Expected checkpoints to be saved between the steps of a run. What was changed in "
                "the model since has no certificate. Call save_model() after train()."
            )
        write_checkpoint(self, self._standing)

    def _end(self, result: FitResult) -> TrainOutput:
        self.log({"epsilon": result.epsilon})
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        metrics = {
            "epsilon": result.epsilon,
            "delta": result.delta,
            "train_samples_per_second": result.examples_per_second,
        }
        return TrainOutput(self.state.global_step, math.nan, metrics)
