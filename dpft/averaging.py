"""Averages of the iterates of a run.

A noisy run ends at a random place around its optimum; the mean of its last iterates lies nearer.
Knows parameters and steps, neither data nor noise.
"""

from collections.abc import Mapping
from typing import Any

import torch

from dpft.errors import ConfigurationError

__all__ = ["ExponentialAverage", "momentum_at"]


class ExponentialAverage:
    """Exponential moving average of parameters over steps.

    a_0 = theta_0,  a_t = w_t a_{t-1} + (1 - w_t) theta_t  with w_t from `momentum_at`

    The parameters are averaged one by one, so under LoRA the factors, not their product. Averages
    are kept in float32 at least: in half precision the small moves would round to nothing.

    Args:
        parameters: Parameters by name; their present values are theta_0.
        decay: Limit of w_t, in (0, 1); the average reaches back over about 1 / (1 - decay) steps.

    Privacy:
        Post-processing of released iterates: epsilon is that of the run without averaging
        (`tests/dpft/test_optimisation.py::test_averaging_does_not_change_epsilon`).

    References:
        De et al. 2022 (2204.13650), parameter averaging; the warm-up is that of their code.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], decay: float) -> None:
        """Start from the parameters as they are."""
        self._parameters = dict(parameters)
        self._decay = decay
        self._steps = 0
        self._average = {name: _wide_copy(value) for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present values of the parameters in, after a step."""
        self._steps += 1
        share = 1 - momentum_at(self._steps, self._decay)
        for name, average in self._average.items():
            average.lerp_(self._parameters[name].to(average.dtype), share)

    @torch.no_grad()
    def release(self) -> None:
        """Put the average into the parameters; the last iterate is lost."""
        for name, average in self._average.items():
            self._parameters[name].copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """Return steps and averages; later steps do not change what was returned."""
        average = {name: value.clone() for name, value in self._average.items()}
        return {"steps": self._steps, "average": average}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            ConfigurationError: If the state belongs to other parameters.
        """
        stored: Mapping[str, torch.Tensor] = state["average"]
        if _shapes(stored) != _shapes(self._average):
            differing = sorted(set(_shapes(stored).items()) ^ set(_shapes(self._average).items()))
            raise ConfigurationError(
                "Expected the stored average to be of the model's trainable parameters, which "
                f"differ in {[name for name, _ in differing[:3]]}. It was made for another model "
                "or adapter. Resume with the settings of the run."
            )
        self._steps = state["steps"]
        for name, average in self._average.items():
            average.copy_(stored[name])


def momentum_at(step: int, decay: float) -> float:
    """Return the weight w_t that the old average keeps at a step.

    w_t = min(decay, t / (9 + t)): 0.1 at first, so that the starting point is soon forgotten.

    Args:
        step: t = 1, 2, ...
        decay: Limit, in (0, 1).

    Privacy:
        Nothing, no data touched.

    Example:
        >>> [momentum_at(step, decay=0.99) for step in (1, 9, 10_000)]
        [0.1, 0.5, 0.99]
    """
    return min(decay, step / (9 + step))


def _wide_copy(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32), copy=True)


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}
