"""Adam corrected for noise, against torch's Adam, NumPy, and closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from dpft.adam_bc import AdamBC, AdamBCSettings, corrected_second_moment

STEPS, SIZE = 30, 7
NOISE_STD = 0.3


def gradients(seed: int = 0, steps: int = STEPS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, SIZE, generator=generator, dtype=torch.float64)


def started() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, SIZE, dtype=torch.float64))


def follow(optimizer: torch.optim.Optimizer, path: torch.Tensor) -> torch.Tensor:
    """Give every parameter of the optimiser one gradient after another."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    for gradient in path:
        for parameter in held:
            parameter.grad = gradient.clone()
        optimizer.step()
    return torch.stack([p.detach().clone() for p in held])


def numpy_adam_bc(start: np.ndarray, path: np.ndarray, lr: float, s: AdamBCSettings) -> np.ndarray:
    """Return the last iterate by the formulae of the paper, written out anew."""
    theta, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, gradient in enumerate(path, start=1):
        g = gradient + s.weight_decay * theta
        m = s.betas[0] * m + (1 - s.betas[0]) * g
        v = s.betas[1] * v + (1 - s.betas[1]) * g**2
        m_hat, v_hat = m / (1 - s.betas[0] ** t), v / (1 - s.betas[1] ** t)
        floor = s.noise_floor * s.noise_variance
        theta = theta - lr * m_hat / (np.sqrt(np.maximum(v_hat - s.noise_variance, floor)) + s.eps)
    return theta


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_without_noise_it_is_adam(weight_decay: float, eps: float) -> None:
    ours, theirs = started(), started()
    constants = {"betas": (0.8, 0.95), "eps": eps, "weight_decay": weight_decay}
    settings = AdamBCSettings(noise_variance=0.0, **constants)
    mine = follow(AdamBC([ours], 0.1, settings), gradients())
    reference = follow(torch.optim.Adam([theirs], lr=0.1, **constants), gradients())
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noise_floor", [0.01, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_with_noise_it_is_the_paper(noise_floor: float, weight_decay: float) -> None:
    settings = AdamBCSettings(
        noise_variance=0.7, noise_floor=noise_floor, weight_decay=weight_decay, betas=(0.8, 0.9)
    )
    parameter, path = started(), gradients()
    expected = numpy_adam_bc(parameter.detach().numpy(), path.numpy(), 0.1, settings)
    actual = follow(AdamBC([parameter], 0.1, settings), path)[0]
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-12)


def test_the_correction_takes_the_bias_of_pure_noise_away() -> None:
    # Unweighted mean over n squares of N(0, V): expectation V, standard error V sqrt(2 / n).
    count = 1_000_000
    noise = NOISE_STD * torch.randn(
        count, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    estimate = noise.square().mean(0, keepdim=True)
    corrected = corrected_second_moment(estimate, NOISE_STD**2, noise_floor=1e-9)
    assert estimate.item() > 0.9 * NOISE_STD**2
    assert corrected.item() < 5 * NOISE_STD**2 * math.sqrt(2 / count)


def test_the_corrected_second_moment_of_signal_and_noise_is_that_of_the_signal() -> None:
    # Over many entries, E[v_hat - V] = signal^2 after any number of steps.
    signal, entries, steps = 0.5, 4000, 50
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(steps, entries, generator=generator, dtype=torch.float64)
    parameter = nn.Parameter(torch.zeros(entries, dtype=torch.float64))
    settings = AdamBCSettings(noise_variance=NOISE_STD**2, betas=(0.9, 0.99))
    optimizer = AdamBC([parameter], 1e-6, settings)
    follow(optimizer, signal + NOISE_STD * noise)
    second = optimizer.state[parameter]["exp_avg_sq"] / (1 - 0.99**steps)
    corrected = corrected_second_moment(second, NOISE_STD**2, noise_floor=1e-9)
    # one square has variance 2 V^2 + 4 V signal^2; 50 steps at 0.99 count as 49.0
    error = math.sqrt((2 * NOISE_STD**4 + 4 * NOISE_STD**2 * signal**2) / (49.0 * entries))
    assert abs(corrected.mean().item() - signal**2) < 5 * error


def test_a_second_moment_below_the_noise_is_raised_to_the_floor() -> None:
    corrected = corrected_second_moment(torch.tensor([0.0, 1.0, 1.05, 3.0]), 1.0, noise_floor=0.1)
    torch.testing.assert_close(corrected, torch.tensor([0.1, 0.1, 0.1, 2.0]))


def test_the_first_step_below_the_noise_is_at_most_the_root_of_the_floor_longer_than_adam() -> None:
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    settings = AdamBCSettings(noise_variance=1.0, noise_floor=0.04)
    moved = follow(AdamBC([parameter], 0.1, settings), torch.tensor([[0.9]], dtype=torch.float64))
    assert moved.item() == pytest.approx(-0.1 * 0.9 / 0.2, rel=1e-7)


def test_groups_have_their_own_learning_rate() -> None:
    slow, fast = nn.Parameter(torch.zeros(SIZE)), nn.Parameter(torch.zeros(SIZE))
    groups = [{"params": [slow]}, {"params": [fast], "lr": 0.3}]
    moved = follow(AdamBC(groups, 0.1, AdamBCSettings(noise_variance=0.5)), gradients().float())
    torch.testing.assert_close(moved[1], 3 * moved[0])


def test_a_schedule_halves_the_step() -> None:
    parameter = nn.Parameter(torch.zeros(SIZE))
    optimizer = AdamBC([parameter], 0.1, AdamBCSettings(noise_variance=0.5))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    path = torch.ones(1, SIZE)
    first = follow(optimizer, path)[0]
    scheduler.step()
    second = follow(optimizer, path)[0] - first
    torch.testing.assert_close(second, first / 2)


def test_a_parameter_without_a_gradient_stays_where_it_is() -> None:
    parameter = started()
    optimizer = AdamBC([parameter], 0.1, AdamBCSettings(noise_variance=0.5))
    optimizer.step()
    assert torch.equal(parameter, started())
    assert not optimizer.state


def test_a_closure_is_called_with_gradients_enabled() -> None:
    parameter = started()
    optimizer = AdamBC([parameter], 0.1, AdamBCSettings(noise_variance=0.0))

    def closure() -> float:
        loss = parameter.square().sum()
        torch.autograd.backward(loss)
        return loss.item()

    assert optimizer.step(closure) == started().square().sum().item()
    assert not torch.equal(parameter, started())


def test_resuming_equals_no_interruption() -> None:
    settings = AdamBCSettings(noise_variance=0.5)
    whole, parameter = started(), started()
    expected = follow(AdamBC([whole], 0.1, settings), gradients())
    first = AdamBC([parameter], 0.1, settings)
    follow(first, gradients()[:10])
    second = AdamBC([parameter], 0.1, settings)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(follow(second, gradients()[10:]), expected)
