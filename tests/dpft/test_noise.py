"""What is added to a clipped sum: in float64 for every parameter, or integers on a public grid."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dpft
import dpft.private_step
from dpft.accounting import Accountant, Adjacency, Certificate, DiscreteGaussian, Unit
from dpft.auditing import AuditTarget
from dpft.errors import ConfigurationError, UnsupportedError
from dpft.explanation import explain
from dpft.losses import Classification
from dpft.noise import _rounded, noised, refuse_too_many_entries
from dpft.privacy import NoiseKind, PrivacyMode, PrivacyPlan
from dpft.private_step import PrivateStep, StepSettings
from dpft.randomness import PinnedRandomness, Purpose, Stream

MANY = 40_000
INTEGER: dict[str, Any] = {
    "noise": NoiseKind.DISCRETE_GAUSSIAN,
    "accountant": Accountant.RDP,
    "delta": 1e-3,
    "noise_multiplier": 3.0,
    "expected_batch_size": 10,
    "steps": 2,
}


def plan(**fields: Any) -> PrivacyPlan:
    return dpft.Privacy(**{**INTEGER, **fields}).plan(20)


def stream(seed: int = 1) -> Stream:
    return PinnedRandomness(seed).stream(Purpose.NOISE, 0)


@pytest.mark.parametrize("kind", list(NoiseKind))
def test_noise_is_added_in_float64_whatever_the_parameter_is(kind: NoiseKind) -> None:
    raw = torch.full((MANY,), 300.0)  # of a bfloat16 parameter; there 300 + N(0, 1) takes 5 values
    noisy = noised(raw, plan(noise=kind, noise_multiplier=1.0), stream())
    assert noisy.dtype is torch.float64
    assert len(noisy.unique()) > 0.99 * MANY
    assert float((noisy - 300).std()) == pytest.approx(1, abs=5 / math.sqrt(2 * MANY))


def test_a_bfloat16_parameter_gets_its_noise_before_it_is_rounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[torch.dtype, torch.Tensor]] = []

    def spied(raw: torch.Tensor, *arguments: Any) -> torch.Tensor:
        seen.append((raw.dtype, noised(raw, *arguments)))
        return seen[-1][1]

    monkeypatch.setattr(dpft.private_step, "noised", spied)
    model = nn.Linear(64, 1, bias=False).to(torch.bfloat16)
    step = step_of(model, 1.0, accountant=Accountant.PLD, noise=NoiseKind.GAUSSIAN)
    for batch in step.batches(rows(64), collate):
        step(batch)
    for (dtype, noisy), grad in zip(seen, handed_to(step), strict=True):
        assert dtype is torch.float32
        assert noisy.dtype is torch.float64
        assert torch.equal(grad, (noisy / 10).to(torch.bfloat16))


def test_integer_noise_lies_on_the_public_grid() -> None:
    fixed = plan(clip_norm=0.7)
    raw = torch.linspace(-5, 5, MANY)
    noisy = noised(raw, fixed, stream())
    quotients = noisy / fixed.granularity
    assert float((quotients - quotients.round()).abs().max()) < 1e-6
    noise = noisy - raw.double()
    assert float(noise.std()) == pytest.approx(fixed.noise_std, rel=5 / math.sqrt(2 * MANY))
    assert abs(float(noise.mean())) < 5 * fixed.noise_std / math.sqrt(MANY)
    correlation = float((noise[:-1] * noise[1:]).mean()) / fixed.noise_std**2
    assert abs(correlation) < 5 / math.sqrt(MANY)


@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 47.0])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4, 1e9])
def test_rounding_never_moves_sums_further_apart(noise_multiplier: float, size: float) -> None:
    step_of_grid = plan(noise_multiplier=noise_multiplier).granularity
    entries = 2_000
    bound = 1 / step_of_grid + 1.25 * math.sqrt(entries)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        one = size * torch.randn(entries, generator=generator, dtype=torch.float64)
        apart = torch.randn(entries, generator=generator, dtype=torch.float64)
        other = one + apart / apart.norm()
        assert (
            float((_rounded(one / step_of_grid) - _rounded(other / step_of_grid)).norm()) <= bound
        )


def test_rounding_does_move_sums_and_has_to_be_booked() -> None:
    entries = 400
    below, above = torch.full((entries,), 0.4999), torch.full((entries,), 0.5001)
    moved = float((_rounded(below) - _rounded(above)).norm())
    assert moved == math.sqrt(entries)  # from almost nothing
    assert moved <= 1.25 * math.sqrt(entries)


def test_sums_beyond_the_grid_are_cut_and_do_not_fail() -> None:
    cut = noised(torch.tensor([1e30, -1e30]), plan(), stream())
    assert torch.isfinite(cut).all()


def test_more_entries_than_are_booked_are_refused() -> None:
    most = DiscreteGaussian(1.0).dimension
    refuse_too_many_entries(most, plan())
    with pytest.raises(UnsupportedError, match="trained entries="):
        refuse_too_many_entries(most + 1, plan())
    refuse_too_many_entries(most + 1, plan(noise=NoiseKind.GAUSSIAN, accountant=Accountant.PLD))


def test_a_step_counts_its_entries_before_the_first_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def few(self: Any, noise: float, length: Any) -> DiscreteGaussian:
        return DiscreteGaussian(noise, length.steps, dimension=3, adjacency=length.adjacency)

    monkeypatch.setattr(dpft.Privacy, "on_grid", few)
    with pytest.raises(UnsupportedError, match="trained entries=4 <= 3"):
        step_of(nn.Linear(4, 1, bias=False)).batches(rows(4), collate)


def test_integer_noise_is_booked_without_amplification() -> None:
    for batch in (1, 20):
        booked = plan(expected_batch_size=batch).mechanism()
        assert booked == DiscreteGaussian(3.0, 2, adjacency=Adjacency.ZERO_OUT)
    users = plan(unit=Unit.USER).mechanism(1)
    assert users == DiscreteGaussian(3.0, 1, unit=Unit.USER, adjacency=Adjacency.ZERO_OUT)


def test_a_target_is_met_with_integer_noise() -> None:
    found = plan(noise_multiplier=None, epsilon=2.0, delta=1e-5)
    assert 1.98 < found.epsilon() <= 2.0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"accountant": Accountant.PLD}, "accountant=pld to be rdp"),
        ({"accountant": Accountant.PRV}, "accountant=prv to be rdp"),
        ({"unit": Unit.USER, "records_per_user": 2}, "records_per_user=2 to be unset"),
    ],
)
def test_what_has_no_bound_for_integer_noise_is_refused(fields: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        dpft.Privacy(**{**INTEGER, **fields})


def test_other_noise_has_no_grid() -> None:
    with pytest.raises(ConfigurationError, match="noise=gaussian"):
        _ = plan(noise=NoiseKind.GAUSSIAN).discrete


def test_the_audit_refuses_integer_noise() -> None:
    with pytest.raises(ConfigurationError, match="noise=discrete_gaussian to be gaussian"):
        AuditTarget(nn.Linear(4, 1), loss, rows(4)[:3], collate, plan())


def rows(width: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(20, width, generator=generator)
    return [{"x": values.tolist(), "y": float(values[0] > 0)} for values in drawn]


def collate(chosen: Any) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in chosen]) for name in chosen[0]}


def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    return (model(batch["x"].to(dtype)).squeeze(-1) - batch["y"]).square()


class Remembering(torch.optim.SGD):
    """Gradient descent that keeps what it was handed."""

    def step(self, closure: Any = None) -> Any:
        grads = [p.grad.clone() for group in self.param_groups for p in group["params"]]
        self.handed = [*getattr(self, "handed", []), *grads]
        return super().step(closure)


def handed_to(step: PrivateStep) -> list[torch.Tensor]:
    assert isinstance(step._optimizer, Remembering)
    return step._optimizer.handed


def step_of(model: nn.Module, noise_multiplier: float = 3.0, **fields: Any) -> PrivateStep:
    optimizer = Remembering(model.parameters(), lr=1.0)
    privacy = dpft.Privacy(**{**INTEGER, "noise_multiplier": noise_multiplier, **fields})
    settings = StepSettings(synthetic=rows(model.in_features)[:4])
    return PrivateStep(model, optimizer, privacy, loss, settings)


def test_a_step_releases_multiples_of_the_grid() -> None:
    model = nn.Linear(4, 1, bias=False).double()
    step = step_of(model)
    for batch in step.batches(rows(4), collate):
        step(batch)
    quotients = 10 * torch.stack(handed_to(step)) / step.plan.granularity
    assert float((quotients - quotients.round()).abs().max()) < 1e-5
    assert step.is_private
    assert step.mechanism == DiscreteGaussian(3.0, 2, adjacency=Adjacency.ZERO_OUT)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_run_names_its_integer_noise_everywhere(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(**sizes, intermediate_size=8, vocab_size=30, num_labels=2)
    adapter = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=1)
    words = [
        {"input_ids": [3, 4 + i, 5], "attention_mask": [1] * 3, "labels": i % 2} for i in range(20)
    ]
    result = dpft.fit(
        BertForSequenceClassification(config),
        words,
        loss=Classification(),
        privacy=dpft.Privacy(**INTEGER),
        adapter=adapter,
        out=tmp_path / "runs" / "run",
    )
    assert result.epsilon == pytest.approx(result.plan.epsilon())
    text = (tmp_path / "runs" / "run" / "certificate.json").read_text(encoding="utf-8")
    fields = json.loads(text)["runs"][0]["mechanism"]
    assert fields["kind"] == "discrete_gaussian"
    assert {"grid_std", "dimension", "noise_multiplier"} < set(fields)
    assert Certificate.from_json(text) == result.certificate
    told = explain(result.certificate)
    assert "discrete gaussian: noise of 3 times the clip norm" in told
    assert "on a grid of 1.78814e-07 clip norms" in told
    assert "at most 1.67772e+07 entries" in told
    assert "moved by 1.00092 clip norms, rounding included" in told
    assert result.report is not None
    report = result.report.read_text(encoding="utf-8")
    assert "integer noise on a grid" in report
    assert "Epsilon gains nothing from sampling" in report
    assert "the noise, which is exact" in report
    assert PrivacyMode.PRIVATE is result.plan.privacy.mode
    assert np.isfinite(result.epsilon)
