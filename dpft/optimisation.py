"""Everything between a noisy gradient and the next iterate: optimiser and schedule of one run.

All of it post-processes noised gradients, so none of it can change epsilon.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from dpft.optim import Optim, OptimizerName, Schedule
from dpft.privacy import PrivacyPlan

__all__ = ["Optimisation"]


class Optimisation:
    """Optimiser and learning-rate schedule of one run.

    Args:
        model: The model; its parameters with `requires_grad` are trained.
        optim: Settings.
        plan: The plan of the run; its steps fix the schedule.

    Privacy:
        Post-processing of noised gradients and public numbers.
    """

    def __init__(self, model: nn.Module, optim: Optim, plan: PrivacyPlan) -> None:
        """Build the optimiser; nothing moves yet."""
        self.optimizer = _optimizer(model, optim)
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, partial(_learning_rate_factor, optim, plan.length.steps)
        )

    def advance(self) -> None:
        """Follow one step of the optimiser: the schedule moves on."""
        self._scheduler.step()

    def finish(self) -> None:
        """Leave the final iterate in the model, after the last step."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as tensors and plain numbers."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])


def _optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kinds: dict[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
        OptimizerName.ADAM: torch.optim.Adam,
        OptimizerName.ADAMW: torch.optim.AdamW,
        OptimizerName.SGD: torch.optim.SGD,
    }
    return kinds[optim.name](trainable, lr=optim.learning_rate, weight_decay=optim.weight_decay)


def _learning_rate_factor(optim: Optim, steps: int, step: int) -> float:
    """Return the share of the peak learning rate at a step (0, 1, ...)."""
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    if optim.schedule is Schedule.CONSTANT:
        return 1.0
    return max(0.0, (steps - step) / max(1, steps - optim.warmup_steps))
