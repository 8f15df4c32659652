"""Optimiser and schedule of a Trainer, as a run of `dpft.fit` takes them."""

import dataclasses
from typing import Any

from transformers import Trainer

from dpft.optimisation import Optimisation

__all__ = ["TrainerOptim", "optimisation_of"]


@dataclasses.dataclass(frozen=True)
class TrainerOptim:
    """What is compared of optimiser and schedule when a run is resumed.

    Args:
        optimizer: Name of its class.
        groups: Settings of its groups of parameters.
        schedule: Name of the schedule.
        schedule_settings: Its settings.

    Privacy:
        Public settings.
    """

    optimizer: str
    groups: list[dict[str, Any]]
    schedule: str
    schedule_settings: dict[str, Any]


def optimisation_of(trainer: Trainer, steps: int, *, own_schedule: bool) -> Optimisation:
    """Build the optimiser and the schedule that a Trainer's arguments ask for.

    Args:
        trainer: The Trainer; what it was given is used as it is.
        steps: Planned steps, by which the schedule ends.
        own_schedule: Whether the schedule was given rather than asked for by name.

    Privacy:
        Nothing, no data touched. Both post-process noised gradients.
    """
    trainer.create_optimizer()
    trainer.create_scheduler(num_training_steps=steps)
    for name in ("model", "optimizer", "lr_scheduler"):
        setattr(trainer.callback_handler, name, getattr(trainer, name))
    args = trainer.args
    optimizer: Any = trainer.optimizer
    scheduler: Any = trainer.lr_scheduler
    further: Any = args.lr_scheduler_kwargs or {}
    settings = TrainerOptim(
        optimizer=type(optimizer).__name__,
        groups=[_without_parameters(group) for group in optimizer.param_groups],
        schedule=type(scheduler).__name__ if own_schedule else str(args.lr_scheduler_type),
        schedule_settings={"warmup_steps": args.get_warmup_steps(steps), **further},
    )
    return Optimisation(optimizer, scheduler, settings)


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
