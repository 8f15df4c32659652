"""Claims about the whole that no other test states: speed knobs, shared budgets, no network."""

import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_socket import SocketBlockedError

import dpft
from dpft.accounting.ledger import Budget, Ledger, Plans
from dpft.errors import BudgetError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.preparation import prepare

Fit = Callable[..., dpft.FitResult]
KNOBS: dict[str, Any] = {
    "token_budget": 40,
    "max_physical_batch": 3,
    "batch_overhead": 0,
    "frozen_prefix": "memory",
}
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def fitting(knob: str, build: Callable[[], torch.nn.Module]) -> dict[str, Any]:
    """Return the model that a knob needs: one frozen at the bottom, or the usual one."""
    if knob != "frozen_prefix":
        return {}
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("classifier" in name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return {"model": model, "adapter": None}


def test_every_speed_knob_is_tried() -> None:
    assert set(KNOBS) == {field.name for field in dataclasses.fields(dpft.Performance)}
    assert all(getattr(dpft.Performance(), name) != value for name, value in KNOBS.items())


@pytest.mark.parametrize("knob", sorted(KNOBS))
def test_no_speed_knob_changes_epsilon_or_the_noise(
    knob: str, fit: Fit, build: Callable[[], torch.nn.Module]
) -> None:
    as_it_is = fit(**fitting(knob, build))
    changed = fit(**fitting(knob, build), performance=dpft.Performance(**{knob: KNOBS[knob]}))
    assert changed.epsilon == as_it_is.epsilon
    assert changed.plan == as_it_is.plan
    assert changed.run.mechanism == as_it_is.run.mechanism


@pytest.mark.parametrize("knob", sorted(KNOBS))
def test_no_speed_knob_of_the_command_line_changes_the_plan(knob: str) -> None:
    plans = []
    for override in ([], [f"performance.{knob}={KNOBS[knob]}"]):
        prepared = prepare(
            compose_settings(["privacy.noise_multiplier=1", "privacy.epsilon=null", *override])
        )
        plans.append(prepared.privacy.plan(prepared.intake.count))
    assert plans[0] == plans[1]


def test_of_two_jobs_that_exceed_a_budget_together_the_second_is_refused_before_it_samples(
    fit: Fit, privacy: Callable[..., dpft.Privacy], tmp_path: Path, drawn: list[int]
) -> None:
    path = tmp_path / "ledger.sqlite"
    asked = privacy(ledger=str(path), dataset_id="visits", num_records=60)
    alone = asked.plan(60).epsilon()
    with Ledger.open(path) as ledger:
        ledger.set_budget("visits", Budget(epsilon=1.2 * alone, delta=1e-3, plans=Plans.FIXED))
    assert fit(privacy=asked, out=tmp_path / "runs" / "first").epsilon == alone
    assert drawn == [0, 1]
    with pytest.raises(BudgetError, match="What would fit"):
        fit(privacy=asked, out=tmp_path / "runs" / "second")
    assert drawn == [0, 1]


@pytest.mark.parametrize("address", [("127.0.0.1", 9), ("huggingface.co", 443)])
def test_no_test_of_this_suite_can_reach_a_network(address: tuple[str, int]) -> None:
    with pytest.raises((SocketBlockedError, UserWarning)), socket.socket() as connection:
        connection.connect(address)


def test_a_run_opens_no_socket_of_any_kind(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        opened.append(arguments)
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    fit(out=tmp_path / "runs" / "run")
    assert not opened
