"""Adam with a second moment that is corrected for the noise of the gradient.

An ordinary torch optimiser: it knows the noise's variance, not where the noise came from. What
chooses it is `dpft.optimisation`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

__all__ = ["AdamBC", "AdamBCSettings", "corrected_second_moment"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamBCSettings:
    """Constants of `AdamBC`.

    Args:
        noise_variance: Variance of the noise on every entry of the gradient, >= 0, in units of the
            gradient squared: (noise_std / expected_batch_size)^2.
        noise_floor: Least corrected second moment, as a share of the noise variance, in (0, 1].
        betas: Decay of the two moments per step, each in [0, 1).
        eps: Added to the root of the second moment, > 0.
        weight_decay: L2 penalty that enters the gradient, as in torch.optim.Adam; >= 0.

    Privacy:
        Nothing, no data touched.
    """

    noise_variance: float
    noise_floor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0


class AdamBC(torch.optim.Optimizer):
    """Adam without the bias that the noise puts on its second moment.

    theta <- theta - lr m_hat / (sqrt(max(v_hat - V, f V)) + eps), V the noise's variance

    Under noise E[v_hat] is the second moment of the clean gradient plus V. Where V dominates,
    Adam divides every entry by about sqrt(V) and is SGD with momentum; subtracting V brings the
    adaptive steps back.

    Args:
        params: Parameters or groups of them, as for any torch optimiser.
        lr: Learning rate, > 0. Steps are up to 1 / sqrt(f) times as long as Adam's where the
            signal is below the noise, so it is usually set lower than for Adam.
        settings: Constants; a group may override `betas`, `eps` and `weight_decay`.

    Privacy:
        Post-processing of noised gradients and public numbers.

    References:
        Tang, Shpilevskiy, Lécuyer 2024 (2312.14334), algorithm DP-AdamBC. Two deviations. Their
        floor gamma' is an absolute number, tuned for each task; ours is a share f of V, so that it
        follows the noise, and gamma' = f V. They have no eps; we add it outside the root, where
        Adam has it, so that V = 0 gives torch.optim.Adam.
    """

    def __init__(self, params: ParamsT, lr: float, settings: AdamBCSettings) -> None:
        """Hold the parameters; the moments are made in the first step."""
        super().__init__(params, {"lr": lr, **dataclasses.asdict(settings)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # one signature for torch's two overloads
        """Move every parameter that has a gradient.

        Args:
            closure: Computes the loss and the gradients, if they are not there yet.

        Returns:
            What the closure returned, None without one.

        Privacy:
            Reads noised gradients only.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
        state = self._state_of(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        second = corrected_second_moment(
            square / (1 - beta2 ** state["step"]), group["noise_variance"], group["noise_floor"]
        )
        size = group["lr"] / (1 - beta1 ** state["step"])
        parameter.addcdiv_(mean, second.sqrt_().add_(group["eps"]), value=-size)

    def _state_of(self, parameter: torch.Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def corrected_second_moment(
    second_moment: torch.Tensor, noise_variance: float, noise_floor: float
) -> torch.Tensor:
    """Subtract the noise's variance from a second moment.

    Args:
        second_moment: Estimate of E[g^2] of noised gradients, any shape.
        noise_variance: V, >= 0.
        noise_floor: Least result as a share of V, in (0, 1].

    Returns:
        max(second_moment - V, noise_floor V), a new tensor.

    Privacy:
        Post-processing of a noised quantity.
    """
    return (second_moment - noise_variance).clamp_(min=noise_floor * noise_variance)
