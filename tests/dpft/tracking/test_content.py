"""What trackers are told: public numbers, by a list that is closed."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from dpft.optim import Averaging, Optim, OptimizerName, Schedule
from dpft.optimisation import Optimisation
from dpft.privacy import Privacy, PrivacyMode
from dpft.progress import EpsilonCourse, Progress
from dpft.tracking.content import public_fields, released_metrics, run_settings, step_values

STEPS = 6
OPTIM = Optim(learning_rate=0.1, warmup_steps=2)
PATH = "/home/ada/secret_project"


def plan(**changes: Any) -> Any:
    fields = {"delta": 1e-3, "expected_batch_size": 20, "steps": STEPS, "noise_multiplier": 2.0}
    return Privacy(**{**fields, **changes}).plan(80)


@dataclasses.dataclass(frozen=True)
class Written:
    path: str = PATH
    template: str | None = "{text} It was {mask}."
    names: tuple[str, ...] = (PATH,)
    numbers: tuple[float, ...] = (0.5, 0.25)
    choice: Schedule = Schedule.LINEAR
    switch: bool = False
    unset: int | None = None


def test_texts_that_a_user_wrote_are_left_out() -> None:
    assert public_fields("own", Written()) == {
        "own.numbers": "0.5, 0.25",
        "own.choice": "linear",
        "own.switch": False,
    }


def test_settings_name_the_guarantee_the_plan_and_the_optimiser() -> None:
    told = run_settings(plan(dataset_id="visits", ledger=PATH, evaluation_split=None), OPTIM)
    assert told["guarantee"] == "differential privacy"
    assert told["privacy.dataset_id"] == "visits"
    assert told["plan.noise_multiplier"] == 2.0
    assert told["plan.sample_rate"] == 20 / 80
    assert told["plan.unit"] == "record"
    assert told["optim.learning_rate"] == 0.1
    assert PATH not in map(str, told.values())
    assert all(isinstance(value, bool | int | float | str) for value in told.values())


def test_a_run_without_privacy_says_so_and_sends_no_epsilon() -> None:
    naked = plan(noise_multiplier=None, mode=PrivacyMode.NOT_PRIVATE)
    assert run_settings(naked, OPTIM)["guarantee"] == "NOT PRIVATE"
    told = step_values(naked, OPTIM, Progress(1, STEPS, math.inf, math.inf))
    assert not {"spent_epsilon", "target_epsilon"} & told.keys()


def test_a_step_tells_five_public_numbers_and_nothing_else() -> None:
    progress = EpsilonCourse(plan(), private=True).after(2)
    assert step_values(plan(), OPTIM, progress) == {
        "spent_epsilon": progress.spent_epsilon,
        "target_epsilon": progress.target_epsilon,
        "noise_multiplier": 2.0,
        "expected_batch_size": 20.0,
        "learning_rate": pytest.approx(0.1),
    }


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("warmup", [0, 2])
def test_the_learning_rate_is_the_one_the_optimiser_used(schedule: Schedule, warmup: int) -> None:
    optim = Optim(name=OptimizerName.SGD, learning_rate=0.1, schedule=schedule, warmup_steps=warmup)
    optimisation = Optimisation.of(nn.Linear(2, 1), optim, plan())
    for step in range(1, STEPS + 1):
        used = optimisation.optimizer.param_groups[0]["lr"]
        told = step_values(plan(), optim, Progress(step, STEPS, 1.0, 2.0))
        assert told["learning_rate"] == pytest.approx(used, rel=1e-12)
        for parameter in optimisation.optimizer.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        optimisation.optimizer.step()
        optimisation.advance()


def test_a_foreign_schedule_is_not_told_since_it_may_follow_a_metric() -> None:
    told = step_values(plan(), None, Progress(1, STEPS, 1.0, 2.0))
    assert "learning_rate" not in told
    assert not any(name.startswith("optim.") for name in run_settings(plan(), None))


def test_averaging_is_a_setting_like_any_other() -> None:
    averaged = dataclasses.replace(OPTIM, averaging=Averaging.EMA)
    assert run_settings(plan(), averaged)["optim.averaging"] == "ema"


def test_a_metric_that_was_not_released_is_never_sent() -> None:
    values = {"accuracy": 0.5, "noisy_one": 0.25, "raw_loss": 1.5, "other": 0.1, "bad": math.nan}
    status = {
        "accuracy": {"status": "public"},
        "noisy_one": {"status": "noisy", "epsilon": 1.0},
        "other": {"status": "none"},
        "bad": {"status": "public"},
    }
    assert released_metrics(values, status) == {"accuracy": 0.5, "noisy_one": 0.25}
