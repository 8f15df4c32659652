"""Everything between a noisy gradient and the released model: optimiser, schedule, averaging.

All of it post-processes noised gradients, so none of it can change epsilon.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from dpft.adam_bc import AdamBC, AdamBCSettings
from dpft.averaging import ExponentialAverage
from dpft.errors import ConfigurationError
from dpft.optim import Averaging, Optim, OptimizerName, learning_rate_factor
from dpft.privacy import PrivacyPlan

__all__ = ["Optimisation", "head_names"]

# Output layers as transformers names them, fresh or tied; `pre_classifier` is DistilBERT's.
_HEADS = frozenset(
    {"classification_head", "classifier", "lm_head", "pre_classifier", "qa_outputs", "score"}
)


class Optimisation:
    """Optimiser, learning-rate schedule and averaging of one run.

    Args:
        optimizer: Holds the trained parameters.
        scheduler: Sets its learning rate; its state is plain numbers.
        settings: A dataclass of public values that describes both; a resumed run has the same.
        average: What is released in the place of the last iterate, if anything.

    Privacy:
        Post-processing of noised gradients and public numbers.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        settings: Any,
        average: ExponentialAverage | None = None,
    ) -> None:
        """Keep the parts; nothing moves yet."""
        self.optimizer = optimizer
        self.settings = settings
        self._scheduler = scheduler
        self._average = average

    @classmethod
    def of(cls, model: nn.Module, optim: Optim, plan: PrivacyPlan) -> "Optimisation":
        """Build the parts from settings.

        Args:
            model: The model; its parameters with `requires_grad` are trained.
            optim: Settings.
            plan: The plan of the run; its steps fix the schedule, its noise what adam_bc subtracts.

        Raises:
            ConfigurationError: If the head is to have its own learning rate and there is none.

        Privacy:
            Nothing, no data touched.
        """
        optimizer = _optimizer(_groups(model, optim), optim, plan)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, partial(learning_rate_factor, optim, plan.length.steps)
        )
        average = None
        if optim.averaging is Averaging.EMA:
            average = ExponentialAverage(dict(_trainable(model)), optim.averaging_decay)
        return cls(optimizer, scheduler, optim, average)

    def advance(self) -> None:
        """Follow one step of the optimiser: schedule and average move on."""
        self._scheduler.step()
        if self._average is not None:
            self._average.update()

    def finish(self) -> None:
        """Leave what is released in the model, after the last step."""
        if self._average is not None:
            self._average.release()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs; later steps do not change it.

        Returns:
            Tensors, plain numbers, strings and None, in lists and dictionaries with string keys.

        Privacy:
            A function of noised gradients and public numbers.
        """
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }
        if self._average is not None:
            state["average"] = self._average.state_dict()
        plain: dict[str, Any] = _plain(state)
        return plain

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned; the state itself stays as it is.

        Raises:
            ConfigurationError: If the state has an average and these settings have none, or the
                other way round.
        """
        if ("average" in state) != (self._average is not None):
            raise ConfigurationError(
                "Expected optim.averaging to be that of the run which is resumed. The average of "
                "its first steps cannot be made up for. Resume with the settings of the run."
            )
        optimizer = _plain(state["optimizer"])
        optimizer["state"] = {int(index): of for index, of in optimizer["state"].items()}
        self.optimizer.load_state_dict(optimizer)
        self._scheduler.load_state_dict(_plain(state["scheduler"]))
        if self._average is not None:
            self._average.load_state_dict(state["average"])


def head_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the trainable parameters that belong to the head.

    Under peft, these are the modules that it trains whole beside the adapter: names with the part
    `modules_to_save`. An adapter inside an output layer is no head. Without peft, these are names
    with a part that is `classifier`, `score`, `lm_head` or another usual name of an output layer.

    Args:
        model: The model, adapter included.

    Returns:
        Names as in `model.named_parameters()`.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "score": nn.Linear(2, 1)})
        >>> sorted(head_names(model))
        ['score.bias', 'score.weight']
    """
    parts = frozenset({"modules_to_save"}) if hasattr(model, "peft_config") else _HEADS
    return frozenset(name for name, _ in _trainable(model) if not parts.isdisjoint(name.split(".")))


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)


def _groups(model: nn.Module, optim: Optim) -> list[dict[str, Any]]:
    """Return torch's parameter groups: all parameters, or the others and the head."""
    factor = optim.head_learning_rate_factor
    if factor == 1:
        return [{"params": [value for _, value in _trainable(model)]}]
    head = head_names(model)
    if not head:
        raise ConfigurationError(
            f"Expected head_learning_rate_factor={factor} to be 1 without a head. No trainable "
            "parameter belongs to one, so it would do nothing. Unset it, or train the head, with "
            "an adapter by modules_to_save."
        )
    others = [value for name, value in _trainable(model) if name not in head]
    of_head = [value for name, value in _trainable(model) if name in head]
    head_group = {"params": of_head, "lr": optim.learning_rate * factor}
    return [{"params": others}, head_group] if others else [head_group]


def _optimizer(
    groups: list[dict[str, Any]], optim: Optim, plan: PrivacyPlan
) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": optim.learning_rate, "weight_decay": optim.weight_decay}
    adam: dict[str, Any] = {**common, "betas": optim.betas, "eps": optim.eps}
    match optim.name:
        case OptimizerName.ADAM:
            return torch.optim.Adam(groups, **adam)
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(groups, **adam)
        case OptimizerName.SGD:
            return torch.optim.SGD(groups, **common)
        case OptimizerName.ADAM_BC:
            return AdamBC(groups, optim.learning_rate, _adam_bc_settings(optim, plan))


def _adam_bc_settings(optim: Optim, plan: PrivacyPlan) -> AdamBCSettings:
    return AdamBCSettings(
        noise_variance=(plan.noise_std / plan.length.expected_batch_size) ** 2,
        noise_floor=optim.noise_floor,
        betas=optim.betas,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
    )


def _plain(value: Any) -> Any:
    """Return a copy in which tensors stay tensors and containers are lists and string-keyed."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
