"""What becomes of every field of `transformers.TrainingArguments` in a private run.

A field is honoured, has no effect by its nature, or may hold certain values alone; one that is not
known here has to keep its default. Whatever would void the guarantee, or would be ignored although
it asks for something, is refused before the first step.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import SchedulerType
from transformers.training_args import ParallelMode

from dpft.privacy import EvaluationStatus, Privacy

__all__ = [
    "HONOURED",
    "REFUSED",
    "WITHOUT_EFFECT",
    "Refusal",
    "argument_problems",
    "evaluation_problem",
    "steps_problem",
]

HONOURED = frozenset(
    """activation_checkpointing activation_checkpointing_kwargs adam_beta1 adam_beta2 adam_epsilon
    batch_eval_metrics bf16 disable_tqdm eval_accumulation_steps eval_delay eval_do_concat_batches
    eval_on_start eval_steps eval_strategy eval_use_gather_object full_determinism
    gradient_checkpointing gradient_checkpointing_kwargs greater_is_better include_for_metrics
    label_names learning_rate log_level logging_first_step logging_steps logging_strategy
    lr_scheduler_kwargs max_steps metric_for_best_model num_train_epochs output_dir
    per_device_eval_batch_size per_device_train_batch_size prediction_loss_only project
    remove_unused_columns report_to restore_callback_states_from_checkpoint run_name save_steps
    save_total_limit seed tf32 trackio_bucket_id trackio_space_id trackio_static_space_id use_cache
    use_cpu warmup_steps weight_decay""".split()
)
# Of several machines, of loaders of training records, of the logged training loss, or the script's.
WITHOUT_EFFECT = frozenset(
    """average_tokens_across_devices dataloader_in_order dataloader_multiprocessing_context
    dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory
    dataloader_prefetch_factor ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb
    ddp_find_unused_parameters ddp_static_graph ddp_timeout do_eval do_predict do_train fsdp_config
    hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy hub_token
    ignore_data_skip length_column_name liger_kernel_config local_rank log_level_replica
    log_on_each_node logging_nan_inf_filter resume_from_checkpoint save_on_each_node""".split()
)
_NEED_METRICS = {SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY}
_EPOCHS = 3.0  # the default, which cannot be told from the same number given


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Values that a field may hold, and why no others.

    Args:
        allowed: The values.
        why: Why any other is refused, and what to do.
    """

    allowed: tuple[object, ...]
    why: str


_COMPILED = "Compiled code cannot be intercepted. Leave it off."
_LOWER = "It would turn the trained weights themselves to lower precision. Use bf16."
_OTHER_RUNS = "The engine reduces the clipped sum itself, in one process. Run on one device."
_NOT_DONE = "It is not done here. Leave it unset."
REFUSED = {
    "auto_find_batch_size": Refusal(
        (False,),
        "A run that starts again after it ran out of memory samples again, uncounted. Lower "
        "per_device_train_batch_size.",
    ),
    "data_seed": Refusal(
        (None,),
        "Samples that can be drawn again are not secret, and epsilon would not hold. Leave it "
        "unset; tests pin FitOptions.step.",
    ),
    "dataloader_drop_last": Refusal(
        (False,), "Samples are drawn by the engine and have no last batch. Leave it off."
    ),
    "debug": Refusal(([],), "It prints what private records made of activations. Leave it off."),
    "deepspeed": Refusal((None,), _OTHER_RUNS),
    "enable_jit_checkpoint": Refusal(
        (False,), "Charges are on the disk at every step already. Leave it off; resume the run."
    ),
    "fp16": Refusal(
        (False,),
        "Gradients that are scaled, and skipped where not finite, are not those that were clipped "
        "and noised. Use bf16.",
    ),
    "fp16_full_eval": Refusal((False,), _LOWER),
    "bf16_full_eval": Refusal((False,), _LOWER),
    "fsdp": Refusal((None, "", False), _OTHER_RUNS),
    "gradient_accumulation_steps": Refusal(
        (1,),
        "The logical batch is one Poisson sample, cut by per_device_train_batch_size; accumulated "
        "ones would put a record into a step several times. Set privacy.expected_batch_size.",
    ),
    "include_num_input_tokens_seen": Refusal(
        ("no",), 'How many tokens were sampled is private. Set it to "no".'
    ),
    "label_smoothing_factor": Refusal(
        (0,),
        "The Trainer smooths a mean over the batch, which couples records. Pass loss, as in "
        "dpft.losses.CausalLanguageModelling(label_smoothing=0.1).",
    ),
    "load_best_model_at_end": Refusal(
        (False,), "The iterate after the last step is the one with a certificate. Set it to False."
    ),
    "lr_scheduler_type": Refusal(
        tuple(kind for kind in SchedulerType if kind not in _NEED_METRICS),
        "It follows a metric, which a resumed run could not repeat. Choose one that counts steps.",
    ),
    "max_grad_norm": Refusal(
        (1.0, 0, None),
        "Clipping the gradient of a batch bounds no record. Set privacy.clip_norm, and leave "
        "max_grad_norm at its default, which is not used.",
    ),
    "neftune_noise_alpha": Refusal(
        (None,), "Its hook scales by lengths of the batch, and was not checked. Leave it unset."
    ),
    "optim": Refusal(
        ("adamw_torch", "adamw_torch_fused", "sgd"),
        "Others were not tried, and some step inside the backward pass. Choose one of these, or "
        "pass optimizers=(optimizer, scheduler).",
    ),
    "optim_args": Refusal((None,), _NOT_DONE),
    "optim_target_modules": Refusal((None,), _NOT_DONE),
    "parallelism_config": Refusal((None,), _OTHER_RUNS),
    "push_to_hub": Refusal(
        (False,), "Nothing is published before the run has its certificate. Push the result."
    ),
    "save_only_model": Refusal(
        (False,),
        "Without charges and optimiser a run cannot go on, and would be counted anew. Set it to "
        "False.",
    ),
    "save_strategy": Refusal(
        ("no", "steps", "epoch"),
        "A checkpoint is there to resume from, not to choose. Set it to steps, epoch or no.",
    ),
    "skip_memory_metrics": Refusal(
        (True,), "Peaks of memory tell how many records were sampled. Set it to True."
    ),
    "torch_compile": Refusal((False,), _COMPILED),
    "torch_compile_backend": Refusal((None,), _COMPILED),
    "torch_compile_mode": Refusal((None,), _COMPILED),
    "torch_empty_cache_steps": Refusal((None,), _NOT_DONE),
    "train_sampling_strategy": Refusal(
        ("random",),
        "Epsilon holds for the engine's own Poisson samples; others would have another, or none. "
        "Leave it unset: physical batches are of similar length in any case.",
    ),
    "use_liger_kernel": Refusal(
        (False,), "Its fused kernels form the gradient of a whole batch. Leave it off."
    ),
}


def argument_problems(args: TrainingArguments, privacy: Privacy) -> list[str]:
    """Return what a private run cannot do of what arguments ask for.

    Args:
        args: Arguments of a Trainer.
        privacy: The guarantee asked for.

    Returns:
        One message for each problem.

    Privacy:
        Nothing, no data touched (`test_what_would_void_the_guarantee_is_refused`,
        `test_every_field_of_the_arguments_is_known`).
    """
    return [
        *_refused_values(args),
        *_unknown_fields(args),
        *_machine_problems(args),
        *_length_problems(args, privacy),
        *_evaluation_problems(args, privacy),
    ]


def _refused_values(args: TrainingArguments) -> Iterator[str]:
    for name, refusal in REFUSED.items():
        value = getattr(args, name)
        if value not in refusal.allowed:
            shown = " or ".join(str(getattr(each, "value", each)) for each in refusal.allowed)
            value = getattr(value, "value", value)
            yield f"Expected args.{name}={value} to be {shown}. {refusal.why}"
    accelerator: Any = args.accelerator_config
    plain, given = vars(AcceleratorConfig()), vars(accelerator)
    changed = {name: value for name, value in given.items() if value != plain[name]}
    if changed:
        yield (
            f"Expected args.accelerator_config={changed} to be unset. No loader of accelerate sees "
            "training records. Leave it out."
        )


def _unknown_fields(args: TrainingArguments) -> Iterator[str]:
    known = HONOURED | WITHOUT_EFFECT | REFUSED.keys() | {"accelerator_config"}
    for field in dataclasses.fields(args):
        if field.name not in known and getattr(args, field.name) != _default(field):
            yield (
                f"Expected args.{field.name}={getattr(args, field.name)} to be its default. What "
                "it does to records is not known here. Leave it unset."
            )


def _default(field: "dataclasses.Field[Any]") -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _machine_problems(args: TrainingArguments) -> Iterator[str]:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if args.parallel_mode is not ParallelMode.NOT_PARALLEL or args.world_size > 1 or processes > 1:
        yield (
            f"Expected one process on one device, got {args.parallel_mode.value}, world size "
            f"{max(processes, args.world_size)} and {args.n_gpu} GPUs. Replicas would sample and "
            "add noise for themselves. Start python without a launcher, with one device visible."
        )
    if args.mixed_precision not in {"no", "bf16"}:
        yield (
            f"Expected mixed precision={args.mixed_precision} to be no or bf16. Gradients that "
            "are scaled, or quantised over records, are not those that were clipped. Use bf16."
        )
    if args.deepspeed_plugin is not None:
        yield f"Expected no DeepSpeed, asked for by the environment. {_OTHER_RUNS}"


def _length_problems(args: TrainingArguments, privacy: Privacy) -> Iterator[str]:
    if args.num_train_epochs not in {_EPOCHS, privacy.epochs}:
        yield (
            f"Expected args.num_train_epochs={args.num_train_epochs} to be privacy.epochs="
            f"{privacy.epochs}, or left unset. The noise is made for a length that is fixed "
            "beforehand. Set the length in Privacy."
        )
    if args.max_steps > 0 and privacy.steps is not None and args.max_steps != privacy.steps:
        yield steps_problem(args.max_steps, privacy.steps)


def steps_problem(max_steps: int, planned: int) -> str:
    """Say that a number of steps is not the planned one.

    Args:
        max_steps: What the arguments ask for.
        planned: Steps of the plan.

    Privacy:
        Nothing, no data touched.
    """
    return (
        f"Expected args.max_steps={max_steps} to be the planned steps={planned}, or left unset. "
        "The noise is made for a length that is fixed beforehand. Set privacy.steps."
    )


def _evaluation_problems(args: TrainingArguments, privacy: Privacy) -> Iterator[str]:
    asked = args.eval_strategy != "no" or args.eval_on_start
    if asked and privacy.evaluation is not EvaluationStatus.PUBLIC:
        yield evaluation_problem(privacy)


def evaluation_problem(privacy: Privacy) -> str:
    """Say that no metric may be taken.

    Args:
        privacy: Its `evaluation` is not public.

    Privacy:
        Nothing, no data touched.
    """
    status = None if privacy.evaluation is None else privacy.evaluation.value
    return (
        f"Expected privacy.evaluation={status} to be public. The Trainer's metrics carry no noise, "
        "so that they may be taken on public records alone. Set evaluation='public' if the "
        "held-out records are; a noisy metric is taken by dpft train."
    )
