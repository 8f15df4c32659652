"""Steps whose unit is a user: influence of a user, plans, certificates, refusals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dpft
from dpft.accounting import PoissonGaussian, Unit, UserPoissonGaussian
from dpft.engine.grouping import Grouping
from dpft.engine.record_gradients import LeafGradients
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.intake import taken_in
from dpft.performance import Performance
from dpft.private_step import PrivateStep, StepSettings
from dpft.randomness import PinnedRandomness
from dpft.records import EncodingSettings
from dpft.training import FitOptions

Row = dict[str, Any]
WIDTH, USERS, CLIP, TINY_NOISE = 3, 10, 0.5, 1e-8


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return (model(batch["x"]).squeeze(-1) - batch["y"]).square()


def records(count: int, scale: float = 1.0, seed: int = 0) -> list[Row]:
    torch.manual_seed(seed)
    return [{"x": (scale * torch.randn(WIDTH)).tolist(), "y": scale} for _ in range(count)]


def owned(scale: float = 1.0) -> tuple[list[Row], list[str]]:
    """Return records and their owners; user k has 1 + k of them."""
    owners = [f"user {user}" for user in range(USERS) for _ in range(1 + user)]
    return records(len(owners), scale), owners


def privacy(**fields: Any) -> dpft.Privacy:
    given = {"noise_multiplier": 1.0, "delta": 1e-3, "expected_batch_size": 4, "steps": 3}
    return dpft.Privacy(**{**given, "unit": "user", "clip_norm": CLIP, **fields})


def step_of(asked: dpft.Privacy, settings: StepSettings | None = None) -> PrivateStep:
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, 1)
    return PrivateStep(model, torch.optim.SGD(model.parameters(), lr=1.0), asked, loss, settings)


def released(rows: list[Row], owners: list[str], performance: Performance) -> torch.Tensor:
    """Return the sum over all users that a step releases."""
    settings = StepSettings(randomness=PinnedRandomness(1), performance=performance)
    asked = privacy(
        noise_multiplier=TINY_NOISE, num_records=USERS, expected_batch_size=USERS, clipping="flat"
    )
    step = step_of(asked, settings)
    model = step._engine.model
    before = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    step(next(step.batches(rows, collate, owners)))
    after = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    return (before - after) * USERS


@pytest.mark.parametrize("performance", [Performance(), Performance(max_physical_batch=3)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_one_user_more_or_less_changes_the_sum_by_at_most_the_clip_norm(
    scale: float, performance: Performance
) -> None:
    rows, owners = owned()
    mine = records(25, scale, seed=4)
    with_user = released([*rows, *mine], [*owners, *["mine"] * 25], performance)
    without = released(rows, owners, performance)
    assert 0 < float((with_user - without).norm()) <= CLIP
    assert scale < 1e5 or float((with_user - without).norm()) > 0.9 * CLIP


def test_the_same_records_of_many_users_change_it_by_more() -> None:
    """The bound above is not met because nothing large was there."""
    rows, owners = owned()
    mine = records(25, 1e5, seed=4)
    everybody = [f"other {index}" for index in range(25)]
    with_users = released([*rows, *mine], [*owners, *everybody], Performance())
    without = released(rows, owners, Performance())
    assert float((with_users - without).norm()) > 2 * CLIP


def test_rates_count_users_and_the_mechanism_covers_them() -> None:
    rows, owners = owned()
    step = step_of(privacy())
    for batch in step.batches(rows, collate, owners):
        step(batch)
    assert step.plan.length.num_records == USERS
    assert step.mechanism == PoissonGaussian(1.0, 0.4, 3, step.plan.length.adjacency, unit="user")
    assert step.spent_epsilon == step.plan.epsilon()


def test_a_stated_number_of_users_is_kept_whatever_is_there() -> None:
    rows, owners = owned()
    step = step_of(privacy(num_records=100))
    step.batches(rows, collate, owners)
    assert step.plan.length.sample_rate == 0.04


def test_a_largest_number_of_records_calibrates_more_noise_than_a_record_needs() -> None:
    plans = [
        dpft.Privacy(
            epsilon=3.0, delta=1e-4, expected_batch_size=10, steps=20, num_records=1000, **unit
        ).plan(1)
        for unit in ({}, {"unit": "user", "records_per_user": 4}, {"unit": "user"})
    ]
    record, several, whole = (plan.noise_multiplier for plan in plans)
    assert several > record == whole
    assert isinstance(plans[1].mechanism(), UserPoissonGaussian)
    assert plans[1].epsilon() <= 3.0


def test_a_user_of_too_many_records_is_refused() -> None:
    rows, owners = owned()
    with pytest.raises(BrokenGuaranteeError, match="records_per_user=3"):
        step_of(privacy(records_per_user=3)).batches(rows, collate, owners)


@pytest.mark.parametrize("owners", [None, ["a"], ["a", None]])
def test_owners_that_do_not_fit_are_refused(owners: list[str] | None) -> None:
    with pytest.raises(ConfigurationError):
        step_of(privacy()).batches(records(2), collate, owners)


def test_owners_that_nobody_asked_for_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="owners"):
        step_of(privacy(unit="record")).batches(records(2), collate, ["a", "b"])
    with pytest.raises(ConfigurationError, match="column"):
        taken_in([{"who": "a"}], privacy(unit="record"), "who")
    with pytest.raises(ConfigurationError, match="column"):
        taken_in([{"who": "a"}], privacy(), None)


@pytest.mark.parametrize(
    "fields",
    [
        {"unit": "record", "records_per_user": 2},
        {"evaluation": "noisy", "evaluation_epsilon": 1.0},
        {"unit": "household"},
        {"records_per_user": 0},
    ],
)
def test_units_that_contradict_other_settings_are_refused(fields: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        privacy(**fields)


@pytest.mark.parametrize("most", [None, 2])
def test_fit_certifies_users(most: int | None, tmp_path: Path) -> None:
    rows, owners = owned()
    named = [{**row, "who": owner} for row, owner in zip(rows, owners, strict=True)]
    encoded = [{**row, "input_ids": [1]} for row in named]
    torch.manual_seed(0)
    result = dpft.fit(
        nn.Linear(WIDTH, 1),
        encoded,
        loss=loss,
        privacy=privacy(records_per_user=most),
        options=FitOptions(
            encoding=EncodingSettings(user_field="who"),
            step=StepSettings(
                synthetic=[{"x": [0.1 * i] * WIDTH, "y": 1.0, "input_ids": [1] * i} for i in (1, 2)]
            ),
        ),
    )
    assert result.certificate.unit is Unit.USER
    kept = sum(min(most, 1 + user) for user in range(USERS)) if most else USERS
    assert result.run.num_records == kept
    assert result.epsilon == result.plan.epsilon()


def test_the_preflight_checks_joint_gradients_where_users_are_clipped() -> None:
    rows, owners = owned()
    names = []
    for asked, given in ((privacy(), owners), (privacy(unit="record"), None)):
        step = step_of(asked)
        step.batches(rows, collate, given)
        assert step.preflight is not None
        assert step.preflight.passed
        names.append([check.name for check in step.preflight.checks])
    assert set(names[0]) - set(names[1]) == {
        "a user's joint gradient equals a loop",
        "norm of a user / norm by the form used",
        "norm of a user by the form used / norm",
    }


def test_a_joint_gradient_that_is_wrong_fails_the_preflight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, owners = owned()
    whole = LeafGradients.joined

    def halved(self: LeafGradients, grouping: Grouping) -> LeafGradients:
        found = whole(self, grouping)
        return LeafGradients(None if found.full is None else 0.5 * found.full, found.outers)

    monkeypatch.setattr(LeafGradients, "joined", halved)
    with pytest.raises(BrokenGuaranteeError, match="joint gradient"):
        step_of(privacy()).batches(rows, collate, owners)
