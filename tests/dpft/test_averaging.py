"""The moving average of iterates, against its closed form."""

import math

import pytest
import torch

from dpft.averaging import ExponentialAverage, momentum_at
from dpft.errors import ConfigurationError

DECAY = 0.8


def iterates(steps: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(steps + 1, 3, generator=generator, dtype=torch.float64)


def run(steps: int, decay: float = DECAY) -> tuple[ExponentialAverage, torch.Tensor]:
    """Return an average that followed the iterates, and the parameter."""
    path = iterates(steps)
    parameter = path[0].clone()
    average = ExponentialAverage({"weight": parameter}, decay)
    for iterate in path[1:]:
        parameter.copy_(iterate)
        average.update()
    return average, parameter


@pytest.mark.parametrize("steps", [0, 1, 5, 60])
def test_the_average_is_the_closed_form(steps: int) -> None:
    average, parameter = run(steps)
    average.release()
    kept = [1.0, *(min(DECAY, (1 + t) / (10 + t)) for t in range(steps))]
    expected = torch.zeros(3, dtype=torch.float64)
    for index, iterate in enumerate(iterates(steps)):
        own = 1.0 if index == 0 else 1 - kept[index]
        expected += own * math.prod(kept[index + 1 :]) * iterate
    torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-14)


def test_after_the_warm_up_the_weights_fall_by_the_decay() -> None:
    assert [momentum_at(step, DECAY) for step in (35, 36, 37, 1000)] == [
        35 / 44,
        DECAY,
        DECAY,
        DECAY,
    ]


def test_the_average_of_a_constant_is_the_constant() -> None:
    parameter = torch.full((4,), 0.1)
    average = ExponentialAverage({"weight": parameter}, 0.99)
    for _ in range(100):
        average.update()
    average.release()
    assert torch.equal(parameter, torch.full((4,), 0.1))


def test_nothing_is_released_before_it_is_asked_for() -> None:
    _, parameter = run(5)
    assert torch.equal(parameter, iterates(5)[-1])


def test_releasing_twice_changes_nothing() -> None:
    average, parameter = run(5)
    average.release()
    once = parameter.clone()
    average.release()
    assert torch.equal(parameter, once)


def test_half_precision_is_averaged_in_single_precision() -> None:
    parameter = torch.ones(1, dtype=torch.bfloat16)
    average = ExponentialAverage({"weight": parameter}, 0.99)
    for value in (1, 1.25):  # in bfloat16 a move by 0.01 x 0.25 from 1 rounds to nothing
        parameter.fill_(value)
        for _ in range(1000):
            average.update()
    average.release()
    assert parameter.dtype is torch.bfloat16
    assert parameter.item() == 1.25


def test_the_state_round_trip_is_exact() -> None:
    path = iterates(20)
    average, _ = run(20)
    parameter = path[0].clone()
    interrupted = ExponentialAverage({"weight": parameter}, DECAY)
    for iterate in path[1:8]:
        parameter.copy_(iterate)
        interrupted.update()
    resumed = ExponentialAverage({"weight": parameter}, DECAY)
    resumed.load_state_dict(interrupted.state_dict())
    for iterate in path[8:]:
        parameter.copy_(iterate)
        resumed.update()
    assert resumed.state_dict()["steps"] == average.state_dict()["steps"] == 20
    expected = average.state_dict()["average"]["weight"]
    assert torch.equal(resumed.state_dict()["average"]["weight"], expected)


def test_a_state_is_not_changed_by_later_steps() -> None:
    average, parameter = run(3)
    state = average.state_dict()
    kept = state["average"]["weight"].clone()
    parameter.fill_(9)
    average.update()
    assert torch.equal(state["average"]["weight"], kept)


@pytest.mark.parametrize("other", [{"bias": torch.ones(3)}, {"weight": torch.ones(4)}])
def test_the_state_of_other_parameters_is_refused(other: dict[str, torch.Tensor]) -> None:
    average, _ = run(1)
    with pytest.raises(ConfigurationError, match="trainable parameters"):
        average.load_state_dict(ExponentialAverage(other, DECAY).state_dict())
