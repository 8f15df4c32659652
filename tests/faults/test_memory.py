"""Memory that runs out in the middle of a step: the step counts, and nothing follows it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dpft
from dpft.checkpoint import Checkpoints
from dpft.errors import BrokenGuaranteeError
from dpft.private_step import PrivateStep
from dpft.randomness import Purpose, SecretRandomness
from dpft.sampling import LogicalBatch

Fit = Callable[..., dpft.FitResult]
Charged = Callable[[Path], tuple[int, int]]
Errors = type[MemoryError] | type[torch.OutOfMemoryError]
ERRORS = (MemoryError, torch.OutOfMemoryError)
LAST = 3  # the step that has not enough memory


def failing_loss(patch: pytest.MonkeyPatch, error: Errors) -> None:
    plain = LogicalBatch.physical_batches

    def physical_batches(batch: Any, performance: Any) -> Any:
        if batch.step + 1 == LAST:
            raise error("out of memory")
        return plain(batch, performance)

    patch.setattr("dpft.sampling.LogicalBatch.physical_batches", physical_batches)


def failing_noise(patch: pytest.MonkeyPatch, error: Errors) -> None:
    plain = SecretRandomness.stream

    def stream(source: SecretRandomness, purpose: Purpose, step: int) -> Any:
        if purpose is Purpose.NOISE and step + 1 == LAST:
            raise error("out of memory")
        return plain(source, purpose, step)

    patch.setattr("dpft.randomness.SecretRandomness.stream", stream)


def failing_optimiser(patch: pytest.MonkeyPatch, error: Errors) -> None:
    plain = torch.optim.Adam.step
    taken = 0

    def step(optimiser: torch.optim.Adam, *arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == LAST:  # one parameter is moved, the other is not
            with torch.no_grad():
                optimiser.param_groups[0]["params"][0].add_(1)
            raise error("out of memory")
        return plain(optimiser, *arguments)

    patch.setattr("torch.optim.Adam.step", step)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("fail", [failing_loss, failing_noise, failing_optimiser])
def test_a_step_without_memory_stays_charged_and_its_part_is_never_published(
    tmp_path: Path,
    fit: Fit,
    charged: Charged,
    fail: Callable[[pytest.MonkeyPatch, Errors], None],
    error: Errors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    ends_in = torch.OutOfMemoryError if fail is failing_loss else error  # however fine the cut
    with monkeypatch.context() as patch:
        fail(patch, error)
        with pytest.raises(ends_in):
            fit(out)
    lines = [json.loads(line) for line in (out / "charges.jsonl").read_text().splitlines()]
    assert lines[-1] == ["failed", LAST]
    assert charged(out) == (LAST, LAST)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step_000002"]
    assert not (out / "adapter").exists()
    with pytest.raises(BrokenGuaranteeError, match="new release"):
        fit(out)
    assert charged(out) == (LAST, LAST)


def test_a_step_without_memory_moves_nothing_and_none_of_its_randomness_is_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[Purpose, int]] = []
    plain = SecretRandomness.stream
    failed = False

    def stream(source: SecretRandomness, purpose: Purpose, step: int) -> Any:
        drawn.append((purpose, step))
        return plain(source, purpose, step)

    def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        nonlocal failed
        failed = failed or len(batch["x"]) > 3  # only ever a private batch
        if failed:  # however finely it is cut from then on
            raise MemoryError
        losses: torch.Tensor = model(batch["x"]).squeeze(1).square()
        return losses

    monkeypatch.setattr("dpft.randomness.SecretRandomness.stream", stream)
    model = nn.Linear(1, 1)
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=2)
    step = PrivateStep(model, torch.optim.SGD(model.parameters(), lr=1.0), privacy, loss)
    batches = step.batches(
        [{"x": [float(index)]} for index in range(40)],
        lambda rows: {"x": torch.tensor([row["x"] for row in rows])},
    )
    batch = next(batches)
    before = [each.detach().clone() for each in model.parameters()]
    with pytest.raises(torch.OutOfMemoryError):
        step(batch)
    for again in (lambda: step(batch), lambda: next(batches)):
        with pytest.raises(BrokenGuaranteeError):
            again()
    assert drawn.count((Purpose.SAMPLING, 0)) == 1
    assert {purpose for purpose, _ in drawn} == {Purpose.SAMPLING, Purpose.FORWARD}
    assert {number for _, number in drawn} == {0}
    assert step.steps_taken == 1
    assert all(map(torch.equal, before, model.parameters()))
    assert all(each.grad is None for each in model.parameters())


def test_memory_that_is_short_between_two_steps_costs_updates_alone(
    tmp_path: Path, fit: Fit, charged: Charged, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Checkpoints.save

    def save(checkpoints: Checkpoints, checkpoint: Any, run: str) -> None:
        if checkpoint.intended == 4:
            raise MemoryError
        plain(checkpoints, checkpoint, run)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(MemoryError):
            fit(tmp_path / "run")
    result = fit(tmp_path / "run")
    assert result.history.lost == 2
    assert charged(tmp_path / "run") == (6, 6)
