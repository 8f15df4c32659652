"""Which optimiser and learning-rate schedule a run uses, and what it averages. No torch in here."""

from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, Field

from dpft.configuration import validated

__all__ = ["Averaging", "Optim", "OptimizerName", "Schedule", "learning_rate_factor"]


def _in_range(betas: tuple[float, float]) -> tuple[float, float]:
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(
            f"Expected betas={list(betas)} to be two numbers in [0, 1). With 1 a moment never "
            "moves. Change betas."
        )
    return betas


_Betas = Annotated[tuple[float, float], AfterValidator(_in_range)]


class Averaging(str, Enum):
    """What the run releases: its last iterate (`none`), or their moving average (`ema`)."""

    NONE = "none"
    EMA = "ema"


class OptimizerName(str, Enum):
    """torch.optim's own optimisers, and Adam corrected for the noise (`dpft.adam_bc`)."""

    ADAM = "adam"
    ADAM_BC = "adam_bc"
    ADAMW = "adamw"
    SGD = "sgd"


class Schedule(str, Enum):
    """Course of the learning rate: `constant`, or `linear` decay to zero."""

    CONSTANT = "constant"
    LINEAR = "linear"


@validated
class Optim:
    """Optimiser settings; they post-process noisy gradients.

    Args:
        name: Optimiser.
        learning_rate: Peak learning rate, > 0.
        head_learning_rate_factor: The head's learning rate divided by `learning_rate`, > 0. The
            head is what peft trains whole beside the adapter (`modules_to_save`); without an
            adapter, the output layer by its name (`dpft.optimisation.head_names`).
        weight_decay: Decoupled for adamw, else an L2 penalty, as in torch; >= 0.
        betas: Decay of the first and second moment per step, each in [0, 1); not used by sgd.
        eps: Added to the root of the second moment, > 0; not used by sgd.
        noise_floor: Least corrected second moment as a share of the noise's variance, in (0, 1];
            used by adam_bc alone. Less of it means longer steps where the signal is weak.
        schedule: Course after warm-up.
        warmup_steps: Steps of linear warm-up, >= 0.
        averaging: Which iterate is released.
        averaging_decay: Decay of the moving average per step, in (0, 1), after a warm-up
            (`dpft.averaging.momentum_at`); used with averaging=ema alone.

    Raises:
        ConfigurationError: If a field is out of range.

    Privacy:
        Post-processing of the noisy gradient: cannot change epsilon
        (`tests/dpft/test_optimisation.py`).
    """

    name: OptimizerName = OptimizerName.ADAM
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    head_learning_rate_factor: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: _Betas = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    noise_floor: Annotated[float, Field(gt=0, le=1)] = 0.1
    schedule: Schedule = Schedule.LINEAR
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    averaging: Averaging = Averaging.NONE
    averaging_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99


def learning_rate_factor(optim: Optim, steps: int, step: int) -> float:
    """Return the share of the peak learning rate at a step.

    Args:
        optim: Warm-up and schedule.
        steps: Planned steps, >= 1.
        step: Number of the step, from 0.

    Returns:
        In [0, 1].

    Privacy:
        Nothing, no data touched.

    Example:
        >>> [learning_rate_factor(Optim(warmup_steps=2), 4, step) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    if optim.schedule is Schedule.CONSTANT:
        return 1.0
    return max(0.0, (steps - step) / max(1, steps - optim.warmup_steps))
