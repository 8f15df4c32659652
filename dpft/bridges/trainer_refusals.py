"""What a private Trainer refuses beside its arguments: versions, callbacks, overridden methods."""

from collections.abc import Iterable

import transformers
from packaging.specifiers import SpecifierSet
from transformers import Trainer, TrainerCallback

from dpft.bridges.trainer_model import tokenizer_of
from dpft.errors import ConfigurationError
from dpft.training import FitOptions

__all__ = [
    "SEARCH",
    "TESTED",
    "callback_problems",
    "given_problems",
    "overridden_problems",
    "refuse_untested",
]

TESTED = SpecifierSet(">=5.23,<5.24")
SEARCH = (
    "A search over private records costs privacy at every trial, and so does the choice. Use "
    "dpft tune, which charges both."
)
_OF_THE_TRAINER = ("checkpoint_every", "parts", "resume")


def refuse_untested(version: str = transformers.__version__) -> None:
    """Raise unless the Trainer is one of the releases that the bridge was tested with.

    Args:
        version: Release of transformers.

    Raises:
        ConfigurationError: If it lies outside.

    Privacy:
        Nothing, no data touched. Another Trainer may call what this one does not replace
        (`test_another_release_of_transformers_is_refused`).
    """
    if not TESTED.contains(version, prereleases=False):
        raise ConfigurationError(
            f"Expected transformers={version} to be {TESTED}. The bridge replaces inner parts of "
            "the Trainer, and another release may train past them. Install a release of that "
            "range, or use dpft.fit, which needs no Trainer."
        )


def callback_problems(callbacks: Iterable[TrainerCallback]) -> list[str]:
    """Return which callbacks ask to stand between noise and optimiser.

    Args:
        callbacks: Callbacks of a Trainer.

    Privacy:
        Nothing, no data touched. Gradients never leave the engine
        (`test_a_callback_before_the_optimizer_is_refused`).
    """
    return [
        f"Expected callback={type(each).__name__} not to have on_pre_optimizer_step. Clipping, "
        "noise and the optimiser's step are one, and nothing changes gradients in between. Use "
        "on_step_end, or wrap the optimiser."
        for each in callbacks
        if getattr(each.on_pre_optimizer_step, "__func__", None)
        is not TrainerCallback.on_pre_optimizer_step
    ]


def given_problems(trainer: Trainer, options: FitOptions) -> list[str]:
    """Return what was given to a private Trainer that it cannot use.

    Args:
        trainer: The Trainer.
        options: Options for `dpft.fit`.

    Privacy:
        Nothing, no data touched (`test_what_only_a_batch_loss_needs_is_refused`).
    """
    problems = []
    if trainer.compute_loss_func is not None:
        problems.append(
            "Expected compute_loss_func to be unset. It makes one number of a batch, in which "
            "records depend on each other. Pass loss, a callable (model, batch) -> losses [B]."
        )
    if trainer.model_init is not None:
        problems.append(f"Expected model_init to be unset. {SEARCH}")
    schedule = trainer.lr_scheduler
    if schedule is not None and getattr(schedule, "optimizer", None) is not trainer.optimizer:
        problems.append(
            "Expected optimizers to hold a scheduler of its optimiser. It would set the learning "
            "rate of another one. Pass both, or the optimiser alone."
        )
    processing = trainer.processing_class
    if processing is not None and tokenizer_of(processing) is None:
        problems.append(
            f"Expected processing_class={type(processing).__name__} to be a tokenizer, or to hold "
            "one. It is saved beside the adapter, and what it knows of records cannot be seen. "
            "Leave it out."
        )
    unset = FitOptions()
    return problems + [
        f"Expected options.{name} to be unset. The Trainer's arguments say it. Leave it out."
        for name in _OF_THE_TRAINER
        if getattr(options, name) != getattr(unset, name)
    ]


def overridden_problems(trainer: object, original: type, names: Iterable[str]) -> list[str]:
    """Return which methods of a private Trainer a subclass, or somebody else, replaced.

    Args:
        trainer: The Trainer.
        original: The class whose methods have to be in force.
        names: Methods that the engine replaces, or that it would not call.

    Privacy:
        Nothing, no data touched. What is ignored without a word, or trains past the engine, is
        refused (`test_overridden_methods_are_refused`).
    """
    return [
        f"Expected {type(trainer).__name__}.{name} not to be overridden. The engine's own loss, "
        "sampling, optimiser and saving stand in its place. Pass loss, optimizers, data_collator "
        "or callbacks."
        for name in names
        if getattr(type(trainer), name) is not getattr(original, name) or name in vars(trainer)
    ]
