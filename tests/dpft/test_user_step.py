"""Steps whose unit is a user: influence of a user, plans, certificates, refusals."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dpft
from dpft.accounting import PoissonGaussian, Unit, UserPoissonGaussian
from dpft.engine.grouping import Grouping
from dpft.engine.record_gradients import LeafGradients
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.intake import taken_in
from dpft.performance import Performance
from dpft.private_step import PrivateStep, StepSettings
from dpft.progress import Progress
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


def test_a_sample_without_users_releases_noise_alone() -> None:
    rows, owners = owned()
    step = step_of(privacy(num_records=10**9, delta=1e-10, expected_batch_size=1, steps=1))
    before = [p.detach().clone() for p in step._engine.model.parameters()]
    for batch in step.batches(rows, collate, owners):
        assert list(batch.user_batches(Performance())) == []
        step(batch)
    assert all(
        not torch.equal(p, old)
        for p, old in zip(step._engine.model.parameters(), before, strict=True)
    )


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


class Saved(nn.Linear):
    def save_pretrained(self, folder: Path, *, safe_serialization: bool) -> None:
        assert safe_serialization
        folder.mkdir()
        save_file(self.state_dict(), folder / "adapter_model.safetensors")


def fit_users(out: Path, asked: dpft.Privacy, killed_in: int | None = None) -> dpft.FitResult:
    """Fit and resume, killed while the records of a step are read, if so asked."""
    rows, owners = owned()
    encoded = [
        {**row, "input_ids": [1], **({"who": owner} if asked.covers is Unit.USER else {})}
        for row, owner in zip(rows, owners, strict=True)
    ]
    steps: list[Progress] = []

    def watched(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if killed_in is not None and len(steps) == killed_in:
            raise KeyboardInterrupt
        return loss(model, batch)

    torch.manual_seed(0)
    synthetic = [{"x": [0.1 * i] * WIDTH, "y": 1.0, "input_ids": [1] * i} for i in (1, 2)]
    return dpft.fit(
        Saved(WIDTH, 1),
        encoded,
        loss=watched,
        privacy=asked,
        out=out,
        on_step=steps.append,
        options=FitOptions(
            resume=out.exists(),
            checkpoint_every=1,
            encoding=EncodingSettings(user_field="who" if asked.covers is Unit.USER else None),
            step=StepSettings(synthetic=synthetic),
        ),
    )


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, dpft.Privacy]:
    asked = privacy(num_records=USERS, expected_batch_size=USERS, steps=4)
    with pytest.raises(KeyboardInterrupt):
        fit_users(tmp_path / "run", asked, killed_in=2)
    return tmp_path / "run", asked


def test_a_step_over_users_that_was_killed_is_charged_and_taken_no_more(
    killed: tuple[Path, dpft.Privacy],
) -> None:
    result = fit_users(*killed)
    assert (result.history.intended, result.history.updates) == (4, 3)
    assert result.certificate.unit is Unit.USER
    assert result.epsilon == result.plan.epsilon(4)


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"unit": "record"}, "unit"), ({"records_per_user": USERS}, "records_per_user")],
)
def test_a_run_for_users_is_resumed_as_nothing_else(
    killed: tuple[Path, dpft.Privacy], fields: dict[str, Any], name: str
) -> None:
    out, asked = killed
    with pytest.raises(ConfigurationError, match=rf"privacy\.{name}="):
        fit_users(out, dataclasses.replace(asked, **fields))
