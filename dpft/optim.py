"""Which optimiser and learning-rate schedule a run uses. No torch in here."""

from enum import Enum
from typing import Annotated

from pydantic import Field

from dpft.configuration import validated

__all__ = ["Optim", "OptimizerName", "Schedule"]


class OptimizerName(str, Enum):
    """torch.optim's own optimisers."""

    ADAM = "adam"
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
        learning_rate: Peak learning rate.
        weight_decay: Decoupled for adamw, as in torch.
        schedule: Course after warm-up.
        warmup_steps: Steps of linear warm-up.

    Privacy:
        Post-processing of the noisy gradient: cannot change epsilon.
    """

    name: OptimizerName = OptimizerName.ADAM
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Schedule = Schedule.LINEAR
    warmup_steps: Annotated[int, Field(ge=0)] = 0
