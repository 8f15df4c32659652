"""The engine is broken on purpose, one way at a time; the audit has to name what is wrong."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import dpft.clipping
from dpft.auditing import AuditCheck, AuditTarget
from dpft.auditing.attendance import (
    Marks,
    attendance_checks,
    mark_collate,
    mark_loss,
    mark_rows,
)
from dpft.auditing.dropout import dropout_check
from dpft.auditing.interruption import interruption_check
from dpft.auditing.noise import noise_checks
from dpft.auditing.replay import replay_checks
from dpft.auditing.scores import score_checks
from dpft.auditing.target import untouched_afterwards
from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine
from dpft.engine.record_gradients import LeafGradients
from dpft.errors import BrokenGuaranteeError
from dpft.private_step import PrivateStep
from dpft.randomness import Purpose, SecretRandomness, Stream
from dpft.sampling import LogicalBatch, PoissonSampler

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
_NORMALS = Stream.normals
_STREAM = SecretRandomness.stream
_RELEASE = PrivateStep._release
_FACTORS = dpft.clipping.clip_factors


def scaled_noise(factor: float) -> Plant:
    def plant(patch: Patch) -> None:
        patch.setattr(Stream, "normals", lambda self, count: factor * _NORMALS(self, count))

    return plant


def uniform_noise(patch: Patch) -> None:
    def normals(self: Stream, count: int) -> Any:
        return (2 * self._uniforms(count) - 1) * 3**0.5

    patch.setattr(Stream, "normals", normals)


def noise_of_step_zero(patch: Patch) -> None:
    def stream(self: SecretRandomness, purpose: Purpose, step: int) -> Stream:
        return _STREAM(self, purpose, 0 if purpose is Purpose.NOISE else step)

    patch.setattr(SecretRandomness, "stream", stream)


def noise_of_torch(patch: Patch) -> None:
    def normals(self: Stream, count: int) -> Any:
        return torch.randn(count, dtype=torch.float64).numpy()

    patch.setattr(Stream, "normals", normals)


def one_key_for_all(patch: Patch) -> None:
    def key(self: Any) -> None:
        self._key = bytes(32)

    patch.setattr(SecretRandomness, "__init__", key)


def keys_counted_from_attachment(patch: Patch) -> None:
    one_key_for_all(patch)

    def stream(self: Any, purpose: Purpose, step: int) -> Stream:
        self.first = getattr(self, "first", step)
        return _STREAM(self, purpose, step - self.first)

    patch.setattr(SecretRandomness, "stream", stream)


def one_stream_for_each_parameter(patch: Patch) -> None:
    def release(self: Any, total: ClippedSum, step: int) -> None:
        for name, parameter in self._engine.parameters.items():
            raw = total.raw_sums[name]
            stream = self._randomness.stream(Purpose.NOISE, step)
            noise = torch.from_numpy(stream.normals(raw.numel())).view(raw.shape)
            mean = (raw.double() + self.plan.noise_std * noise) / _divisor(self)
            parameter.grad = mean.to(parameter)

    patch.setattr(PrivateStep, "_release", release)


def no_noise_on(part: str) -> Plant:
    def plant(patch: Patch) -> None:
        def release(self: Any, total: ClippedSum, step: int) -> None:
            _RELEASE(self, total, step)
            for name, parameter in self._engine.parameters.items():
                if part in name:
                    parameter.grad = total.raw_sums[name] / _divisor(self)

        patch.setattr(PrivateStep, "_release", release)

    return plant


def untouched_is_left_out(patch: Patch) -> None:
    def release(self: Any, total: ClippedSum, step: int) -> None:
        _RELEASE(self, total, step)
        for name, parameter in self._engine.parameters.items():
            if not total.raw_sums[name].any():
                parameter.grad = None

    patch.setattr(PrivateStep, "_release", release)


def noise_for_each_micro_batch(patch: Patch) -> None:
    added = ClippedSum.add

    def add(self: ClippedSum, gradients: Any) -> None:
        added(self, gradients)
        for raw in self.raw_sums.values():
            raw.add_(1.1 * torch.randn_like(raw))

    patch.setattr(ClippedSum, "add", add)


def divisor_from_the_rows(patch: Patch) -> None:
    batches = PrivateStep.batches

    def counted(self: Any, records: Any, *more: Any) -> Iterator[LogicalBatch]:
        drawn = batches(self, records, *more)
        length = self._plan.length
        size = max(1, round(length.sample_rate * len(records)))
        counted_length = dataclasses.replace(length, expected_batch_size=size)
        self._plan = dataclasses.replace(self._plan, length=counted_length)
        return drawn

    patch.setattr(PrivateStep, "batches", counted)


def clipping_after_averaging(patch: Patch) -> None:
    @torch.no_grad()
    def add(self: Any, gradients: Any) -> None:
        ones = torch.ones_like(gradients.raw_norms())
        sums = {name: torch.zeros_like(raw) for name, raw in self.raw_sums.items()}
        gradients.add_weighted(ones, sums)
        norm = torch.cat([each.flatten() for each in sums.values()]).norm()
        for name, raw in self.raw_sums.items():
            raw.add_(sums[name] * min(1.0, float(self._clip_norm / norm)))

    patch.setattr(ClippedSum, "add", add)


def no_clipping(patch: Patch) -> None:
    patch.setattr(dpft.clipping, "clip_factors", lambda norms, *_: torch.ones_like(norms))


def not_a_number_is_kept(patch: Patch) -> None:
    def factors(norms: torch.Tensor, *more: Any) -> torch.Tensor:
        return torch.where(norms.isfinite(), _FACTORS(norms, *more), norms.new_ones(()))

    patch.setattr(dpft.clipping, "clip_factors", factors)


def squares_of_sites_are_summed(patch: Patch) -> None:
    added = LeafGradients.add

    def add(self: Any, grads_B: torch.Tensor) -> None:
        added(self, grads_B)
        squares = grads_B.reshape(len(grads_B), -1).square().sum(1)
        self.squares = getattr(self, "squares", 0) + squares

    patch.setattr(LeafGradients, "add", add)
    patch.setattr(LeafGradients, "raw_squared_norms", lambda self: self.squares)
    patch.setattr("dpft.engine.record_gradients.ghost_is_cheaper", lambda *_: False)


def shuffled_batches(patch: Patch) -> None:
    order = np.random.default_rng(0)

    def sample(self: Any, step: int, count: int, rate: float) -> Any:
        size = max(1, round(rate * count))
        turns = max(1, count // size)
        if step % turns == 0 or getattr(self, "deck", None) is None:
            self.deck = order.permutation(count)
        start = step % turns * size
        return self.deck[start : start + size]

    patch.setattr(SecretRandomness, "poisson_sample", sample)


def another_rate(patch: Patch) -> None:
    sample = SecretRandomness.poisson_sample

    def often(self: SecretRandomness, step: int, count: int, rate: float) -> Any:
        return sample(self, step, count, min(1.0, 1.5 * rate))

    patch.setattr(SecretRandomness, "poisson_sample", often)


def neighbours_together(patch: Patch) -> None:
    sample = SecretRandomness.poisson_sample

    def paired(self: SecretRandomness, step: int, count: int, rate: float) -> Any:
        firsts = sample(self, step, (count + 1) // 2, rate)
        return np.concatenate([2 * firsts, 2 * firsts + 1])

    patch.setattr(SecretRandomness, "poisson_sample", paired)


def last_micro_batch_is_dropped(patch: Patch) -> None:
    cut = LogicalBatch.physical_batches

    def shortened(self: LogicalBatch, performance: Any) -> Iterator[Mapping[str, torch.Tensor]]:
        parts = list(cut(self, performance))
        yield from parts[:-1] if len(parts) > 1 else parts

    patch.setattr(LogicalBatch, "physical_batches", shortened)


def seeded_dropout(patch: Patch) -> None:
    patch.setattr(SecretRandomness, "forward_seed", lambda *_: 0)
    patch.setattr(SecretRandomness, "forward_state", lambda *_: np.ones(624, np.uint32))


def dropout_by_step(patch: Patch) -> None:
    def seed(_: SecretRandomness, step: int) -> int:
        return step

    def words(_: SecretRandomness, step: int) -> Any:
        return np.full(624, step + 1, np.uint32)

    patch.setattr(SecretRandomness, "forward_seed", seed)
    patch.setattr(SecretRandomness, "forward_state", words)


def stale_parameters(patch: Patch) -> None:
    computed = Engine.gradients

    def gradients(self: Any, batch: Any) -> Any:
        if not hasattr(self, "first"):
            self.first = {name: p.detach().clone() for name, p in self.parameters.items()}
        present = {name: p.data for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.data = self.first[name]
        try:
            return computed(self, batch)
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = present[name]

    patch.setattr(Engine, "gradients", gradients)


def booked_after_the_sample(patch: Patch) -> None:
    def charged(self: Any, sampler: PoissonSampler, step: int) -> LogicalBatch:
        batch = sampler.draw(step)
        self._steps_taken = step + 1
        if self._charges is not None:
            self._charges.intend(step)
        return batch

    patch.setattr(PrivateStep, "_charged", charged)


def _divisor(step: PrivateStep) -> float:
    return step.plan.length.expected_batch_size


def quiet_pair(target: AuditTarget) -> Iterator[AuditCheck]:
    yield interruption_check(target)


def masks(target: AuditTarget) -> Iterator[AuditCheck]:
    found = dropout_check(target)
    assert found is not None
    yield found


DEFECTS = [
    ("no noise", scaled_noise(0.0), noise_checks, "noise: variance"),
    ("noise scaled by a quarter", scaled_noise(0.25), noise_checks, "noise: variance"),
    ("noise scaled by a half", scaled_noise(0.5), noise_checks, "noise: variance"),
    ("noise scaled by 0.8", scaled_noise(0.8), noise_checks, "noise: variance"),
    ("uniform noise", uniform_noise, noise_checks, "noise: normal in shape"),
    ("noise reused at every step", noise_of_step_zero, noise_checks, "every step"),
    ("noise from a public seed", noise_of_torch, noise_checks, "step and attachment"),
    ("same key on two ranks", one_key_for_all, noise_checks, "step and attachment"),
    ("one stream for every parameter", one_stream_for_each_parameter, noise_checks, "parameter"),
    ("head without noise", no_noise_on("head.bias"), noise_checks, "worst: head.bias"),
    ("prompt without noise", no_noise_on("prompt"), noise_checks, "worst: prompt"),
    ("no noise where nothing was reached", untouched_is_left_out, noise_checks, "variance"),
    ("noise for each micro-batch", noise_for_each_micro_batch, noise_checks, "variance"),
    ("divisor from len()", divisor_from_the_rows, noise_checks, "variance"),
    ("divisor from len(), seen by records", divisor_from_the_rows, attendance_checks, "one contr"),
    ("clipping after averaging", clipping_after_averaging, replay_checks, "each clipped alone"),
    ("no clipping", no_clipping, replay_checks, "a huge gradient"),
    ("NaN is kept", not_a_number_is_kept, replay_checks, "not a number"),
    ("squares of shared sites summed", squares_of_sites_are_summed, replay_checks, "sensitivity"),
    ("last micro-batch dropped", last_micro_batch_is_dropped, replay_checks, "physical batches"),
    ("stale parameters", stale_parameters, replay_checks, "present parameters"),
    ("seeded dropout", seeded_dropout, masks, "dropout"),
    ("dropout seeded by the step", dropout_by_step, masks, "dropout"),
    ("shuffled batches", shuffled_batches, attendance_checks, "dispersion over records"),
    ("one and a half times the rate", another_rate, attendance_checks, "sample rate"),
    ("neighbours drawn together", neighbours_together, attendance_checks, "neighbours"),
    ("booked after the sample", booked_after_the_sample, attendance_checks, "charges"),
    ("resumption replays noise", keys_counted_from_attachment, quiet_pair, "after a resumption"),
    ("noise scaled by a half, by scores", scaled_noise(0.5), score_checks, "canaries: law"),
    ("no noise, by a lower bound", scaled_noise(1e-3), score_checks, "lower bound"),
]


@pytest.mark.parametrize(
    ("plant", "checks", "name"), [row[1:] for row in DEFECTS], ids=[row[0] for row in DEFECTS]
)
def test_a_planted_defect_is_caught_by_name(
    plant: Plant, checks: Any, name: str, target: AuditTarget, monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    monkeypatch.setattr("dpft.private_step.run_preflight", lambda *_: None)

    with untouched_afterwards(target.model):
        failed = [check.name for check in checks(target) if not check.passed]

    assert any(name in each for each in failed), failed


def test_an_end_without_noise_is_caught_in_a_large_parameter(
    target: AuditTarget, monkeypatch: Patch
) -> None:
    def release(self: Any, total: ClippedSum, step: int) -> None:
        _RELEASE(self, total, step)
        for parameter in self._engine.parameters.values():
            parameter.grad[8000:] = 0

    monkeypatch.setattr(PrivateStep, "_release", release)
    large = dataclasses.replace(
        target, model=Marks(9000), loss=mark_loss(1.0), rows=mark_rows(3), collate=mark_collate
    )

    failed = [check.name for check in noise_checks(large) if not check.passed]

    assert any("variance" in each for each in failed), failed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sum_that_is_not_finite_breaks_the_guarantee(
    value: float, target: AuditTarget, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(Stream, "normals", lambda _, count: np.full(count, value))

    with pytest.raises(BrokenGuaranteeError, match="sums to be finite"):
        list(score_checks(target))


def mean_over_the_batch(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits = model(batch["input_ids"], batch["attention_mask"])
    losses = functional.cross_entropy(logits, batch["labels"], reduction="none")
    return losses / len(losses)


def padding_seen(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits = model(batch["input_ids"], torch.ones_like(batch["attention_mask"]))
    return functional.cross_entropy(logits, batch["labels"], reduction="none")


@pytest.mark.parametrize("loss", [mean_over_the_batch, padding_seen])
def test_records_that_disturb_one_another_are_caught(
    loss: Any, target: AuditTarget, monkeypatch: Patch
) -> None:
    coupled = dataclasses.replace(target, loss=loss)
    with pytest.raises(BrokenGuaranteeError):
        list(replay_checks(coupled))

    monkeypatch.setattr("dpft.private_step.run_preflight", lambda *_: None)
    failed = [check.name for check in replay_checks(coupled) if not check.passed]

    assert any(re.search("sum of its records|changes no other", each) for each in failed), failed
