"""What a step releases: a clipped sum under noise on every entry, and nothing else."""

import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import nn

import dpft
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.performance import Performance
from dpft.private_step import PrivateStep, StepSettings
from dpft.randomness import PinnedRandomness, SecretRandomness
from dpft.records import Row
from dpft.sampling import LogicalBatch

WIDTH, RECORDS, EXPECTED = 6, 120, 30
TINY_NOISE = 1e-9  # as good as none: the clipped sum itself is seen


def rows(count: int = RECORDS, scale: float = 1.0) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    x = scale * torch.randn(count, WIDTH, generator=generator)
    return [{"x": values.tolist(), "y": float(values[0] > 0)} for values in x]


def collate(chosen: Sequence[Row]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in chosen]) for name in chosen[0]}


def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return (model(batch["x"]).squeeze(-1) - batch["y"]).square()


def untouched(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return 0 * loss(model, batch)


class Run:
    """A small model, its step, and its weights before and after."""

    def __init__(
        self,
        noise_multiplier: float = TINY_NOISE,
        settings: StepSettings | None = None,
        of: Callable[..., torch.Tensor] = loss,
        **privacy: float | str,
    ) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        fields = {"delta": 1e-3, "expected_batch_size": EXPECTED, "steps": 3, **privacy}
        self.privacy = dpft.Privacy(noise_multiplier=noise_multiplier, **fields)
        self.step = PrivateStep(self.model, self.optimizer, self.privacy, of, settings)

    def flat(self) -> torch.Tensor:
        return torch.cat([p.detach().double().flatten() for p in self.model.parameters()])

    def update(self, records: Sequence[Row]) -> torch.Tensor:
        """Return the sum that the first step released (learning rate 1)."""
        before = self.flat()
        self.step(next(self.step.batches(records, collate)))
        return (before - self.flat()) * EXPECTED


def pinned(seed: int = 1, performance: Performance | None = None) -> StepSettings:
    return StepSettings(randomness=PinnedRandomness(seed), performance=performance or Performance())


@pytest.mark.parametrize("clipping", ["flat", "auto_s"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_update_never_exceeds_clip_norm_for_one_record_when_noise_is_nil(
    scale: float, clipping: str
) -> None:
    plan = {"clip_norm": 0.5, "clipping": clipping, "expected_batch_size": RECORDS}
    broken: Row = {"x": [math.nan] * WIDTH, "y": 0.0}  # contributes exactly zero
    ordinary = rows(RECORDS)[1:]
    with_it = Run(settings=pinned(), **plan).update([*rows(1, scale), *ordinary])
    without = Run(settings=pinned(), **plan).update([broken, *ordinary])
    difference = (with_it - without) * RECORDS / EXPECTED
    assert 0 < difference.norm() <= 0.5
    assert scale < 1 or difference.norm() > 0.45  # a large gradient is clipped to the bound


def test_the_sum_of_all_records_is_bounded_by_their_number() -> None:
    released = (
        Run(settings=pinned(), expected_batch_size=120).update(rows(scale=1e4)) / EXPECTED * 120
    )
    assert released.norm() <= 120


def test_physical_batches_do_not_change_the_update() -> None:
    reference = Run(settings=pinned()).update(rows())
    for performance in (
        Performance(max_physical_batch=1),
        Performance(max_physical_batch=7),
        Performance(token_budget=3),
        Performance(batch_overhead=0),
    ):
        other = Run(settings=pinned(performance=performance)).update(rows())
        assert torch.allclose(reference, other, atol=1e-5)


def test_every_entry_has_the_planned_noise_independent_of_all_others() -> None:
    settings = [pinned(seed) for seed in range(300)]
    nothing: list[Row] = [{"x": [math.nan] * WIDTH, "y": 0.0}] * RECORDS
    data = [*rows(1), *nothing[1:]]  # the first row gives the preflight its fields
    drawn = torch.stack([Run(2.0, each, steps=1).update(data) for each in settings])
    spread = drawn.std(0) / 2.0
    assert float((spread - 1).abs().max()) < 5.5 / math.sqrt(2 * len(drawn))
    correlations = torch.corrcoef(drawn.T).fill_diagonal_(0.0)
    assert float(correlations.abs().max()) < 5.5 / math.sqrt(len(drawn))


def test_every_entry_receives_noise_also_without_any_record() -> None:
    run = Run(noise_multiplier=1.0, expected_batch_size=1, steps=400)
    before = run.flat()
    for batch in run.step.batches(rows(), collate):
        if not list(batch.physical_batches(Performance())):
            run.step(batch)
            break
        run.step(batch)
        before = run.flat()
    else:  # pragma: no cover - probability (1 - (119/120)**120)**400, about 1e-80
        pytest.fail("no empty sample in 400 steps")
    assert bool((run.flat() != before).all())


def test_the_noise_of_two_steps_and_of_two_runs_is_different() -> None:
    torch.manual_seed(0)
    first, second = Run(noise_multiplier=100.0), Run(noise_multiplier=100.0)
    torch.manual_seed(0)
    one = first.update(rows())
    torch.manual_seed(0)
    other = second.update(rows())
    correlation = torch.corrcoef(torch.stack([one, other]))[0, 1]
    assert abs(float(correlation)) < 5 / math.sqrt(len(one))


def test_noise_of_successive_steps_is_uncorrelated() -> None:
    run = Run(noise_multiplier=1e4, steps=2, settings=pinned(4))
    updates = []
    for batch in run.step.batches(rows(), collate):
        before = run.flat()
        run.step(batch)
        updates.append(before - run.flat())
    correlation = float(torch.corrcoef(torch.stack(updates))[0, 1])
    assert abs(correlation) < 5 / math.sqrt(len(updates[0]))


def test_the_divisor_is_public_and_not_the_realised_batch_size() -> None:
    run, record = Run(settings=pinned()), rows(1)
    realised = len(PinnedRandomness(1).poisson_sample(0, RECORDS, EXPECTED / RECORDS))
    assert realised != EXPECTED
    raw = dpft.per_record_gradients(run.model, loss, collate(record))
    norm = float(torch.cat([grads.flatten() for grads in raw.values()]).norm())
    clipped = 0.999 * norm / (norm + 0.01)
    # equal records: their clipped gradients add up, and the sum is divided by EXPECTED only
    assert float(run.update(record * RECORDS).norm()) == pytest.approx(realised * clipped, rel=1e-4)


def test_weights_really_move_and_learn() -> None:
    run = Run(noise_multiplier=0.3, steps=40)
    data = collate(rows())
    before = float(loss(run.model, data).mean().detach())
    for batch in run.step.batches(rows(), collate):
        run.step(batch)
    assert float(loss(run.model, data).mean().detach()) < 0.8 * before
    assert run.step.steps_taken == 40


def test_exactly_the_planned_steps_are_yielded_and_booked() -> None:
    run = Run(noise_multiplier=1.0, steps=5)
    for batch in run.step.batches(rows(), collate):
        run.step(batch)
    assert run.step.mechanism == run.step.plan.mechanism(5)
    assert run.step.spent_epsilon == run.step.plan.epsilon()


def test_steps_not_taken_are_not_booked() -> None:
    run = Run(noise_multiplier=1.0, steps=5)
    batches = run.step.batches(rows(), collate)
    run.step(next(batches))
    assert run.step.mechanism == run.step.plan.mechanism(1)


def test_no_step_follows_one_that_failed_and_the_failed_one_is_booked() -> None:
    run = Run(noise_multiplier=1.0, steps=5)
    batches = run.step.batches(rows(), collate)
    batch = next(batches)
    run.optimizer.step = None  # fails after the noisy sum was formed
    with pytest.raises(TypeError):
        run.step(batch)
    assert run.step.mechanism == run.step.plan.mechanism(1)
    with pytest.raises(BrokenGuaranteeError, match="one that failed"):
        next(batches)


def test_a_secret_source_cannot_be_shared_by_two_runs() -> None:
    with pytest.raises(BrokenGuaranteeError, match="repeats their noise"):
        Run(settings=StepSettings(randomness=SecretRandomness()))  # refused


def test_the_mode_of_the_preflight_is_kept() -> None:
    run = Run(noise_multiplier=1.0)
    batch = next(run.step.batches(rows(), collate))
    run.model[1].eval()
    with pytest.raises(BrokenGuaranteeError, match="mode"):
        run.step(batch)


def test_the_plan_cannot_be_changed_under_way() -> None:
    run = Run()
    run.step.batches(rows(), collate)
    with pytest.raises(AttributeError):
        run.step.steps_taken = 0  # type: ignore[misc]  # read-only
    assert not hasattr(run.step, "privacy")


def test_a_foreign_batch_is_refused() -> None:
    run = Run()
    run.step.batches(rows(), collate)
    with pytest.raises(BrokenGuaranteeError, match=r"step\.batches"):
        run.step(LogicalBatch(rows(), collate, 0))


def test_a_batch_used_twice_is_refused() -> None:
    run = Run()
    batch = next(run.step.batches(rows(), collate))
    run.step(batch)
    with pytest.raises(BrokenGuaranteeError, match="Pass every batch once"):
        run.step(batch)


def test_a_batch_left_unused_is_refused() -> None:
    batches = Run().step.batches(rows(), collate)
    next(batches)
    with pytest.raises(BrokenGuaranteeError, match="looked at and dropped"):
        next(batches)


def test_a_second_pass_over_the_plan_is_refused() -> None:
    run = Run()
    run.step.batches(rows(), collate)
    with pytest.raises(BrokenGuaranteeError, match="once for each PrivateStep"):
        run.step.batches(rows(), collate)


def test_a_step_before_the_plan_is_refused() -> None:
    with pytest.raises(BrokenGuaranteeError, match=r"batches\(\)"):
        _ = Run().step.plan


def test_an_optimiser_that_misses_a_parameter_is_refused() -> None:
    model = nn.Linear(WIDTH, 1)
    optimizer = torch.optim.SGD([model.weight], lr=1.0)
    with pytest.raises(BrokenGuaranteeError, match="bias"):
        PrivateStep(model, optimizer, Run().privacy, loss)


def test_an_optimiser_with_a_stranger_is_refused() -> None:
    model, other = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=1.0)
    with pytest.raises(BrokenGuaranteeError, match="2 are not"):
        PrivateStep(model, optimizer, Run().privacy, loss)


def test_pinned_randomness_is_not_private_and_spends_infinity() -> None:
    run = Run(noise_multiplier=1.0, settings=pinned())
    run.step(next(run.step.batches(rows(), collate)))
    assert not run.step.is_private
    assert run.step.spent_epsilon == math.inf
    assert "NOT PRIVATE" in run.step.generator


def test_the_users_random_state_is_left_alone() -> None:
    run = Run(noise_multiplier=1.0)
    torch.manual_seed(7)
    run.step(next(run.step.batches(rows(), collate)))
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))


def test_dropout_does_not_follow_the_users_seed() -> None:
    released = []
    for _ in range(2):
        run = Run()
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(WIDTH, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        privacy = dpft.Privacy(
            noise_multiplier=TINY_NOISE, delta=1e-3, expected_batch_size=RECORDS, steps=1
        )
        torch.manual_seed(0)
        nn.init.ones_(model[1].weight)
        nn.init.zeros_(model[1].bias)
        run.step = PrivateStep(model, optimizer, privacy, loss)
        before = model[1].weight.detach().clone()
        torch.manual_seed(0)
        run.step(next(run.step.batches(rows(), collate)))
        released.append(before - model[1].weight.detach())
    assert not torch.allclose(released[0], released[1], atol=1e-7)


def test_a_parameter_that_the_loss_never_uses_is_refused_before_the_first_step() -> None:
    with pytest.raises(BrokenGuaranteeError, match="without a gradient"):
        Run(of=untouched).step.batches(rows(), collate)


def test_fields_of_unknown_range_need_synthetic_records() -> None:
    data = [{**row, "kind": 3} for row in rows()]
    with pytest.raises(ConfigurationError, match="synthetic"):
        Run().step.batches(data, collate)
    own = [{"x": [0.1 * i] * WIDTH, "y": float(i), "kind": i} for i in range(3)]
    run = Run(settings=StepSettings(synthetic=own))
    run.step(next(run.step.batches(data, collate)))
    assert run.step.preflight is not None
    assert run.step.preflight.passed


def test_a_run_that_is_stopped_is_charged_whole() -> None:
    run = Run(noise_multiplier=1.0)
    batches = run.step.batches(rows(), collate)
    run.step(next(batches))
    run.step.forgo()
    assert run.step.steps_taken == 3
    assert run.step.mechanism == run.step.plan.mechanism(3)
    before = run.flat()
    assert list(batches) == []
    assert torch.equal(run.flat(), before)


def test_a_sample_that_was_drawn_is_not_forgone() -> None:
    run = Run()
    next(run.step.batches(rows(), collate))
    with pytest.raises(BrokenGuaranteeError, match="to be taken"):
        run.step.forgo()
