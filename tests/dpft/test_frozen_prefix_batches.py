"""A run with kept states releases what it would release without them, and uses what is used."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dpft
from dpft.engine.attachment import Engine
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.frozen_prefix import FrozenBlocks
from dpft.frozen_prefix_batches import PrefixCache
from dpft.losses import Classification
from dpft.performance import FrozenPrefix, Performance
from dpft.preflight import SyntheticRecords
from dpft.private_step import PrivateStep, StepSettings
from dpft.randomness import PinnedRandomness
from dpft.records import Collate, Row, collate
from dpft.training import FitOptions

RECORDS, STEPS = 18, 3
Build = Callable[..., nn.Module]
Fit = Callable[..., tuple[PrivateStep, torch.Tensor]]
padded = functools.partial(collate, pad_token_id=0)
KEPT = (FrozenPrefix.MEMORY, FrozenPrefix.DISK)


def rows() -> list[Row]:
    generator = torch.Generator().manual_seed(1)
    made: list[Row] = []
    for index in range(RECORDS):
        ids = torch.randint(3, 50, (1 + index % 9,), generator=generator).tolist()
        made.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": index % 3})
    return made


def upper(build: Build, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    model = build("bert", dropout).double()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layer.1." in name or "classifier" in name)
    return model.train()


@dataclasses.dataclass(frozen=True)
class Case:
    """One run: where states are kept, and what is not the usual."""

    place: FrozenPrefix = FrozenPrefix.OFF
    collate: Collate = padded
    loss: Any = dataclasses.field(default_factory=Classification)
    records: Sequence[Row] = dataclasses.field(default_factory=rows)
    owners: Sequence[str] | None = None
    privacy: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dropout: float = 0.0
    cut: int = 6
    synthetic: Sequence[Row] | None = None

    def step(self, build: Build) -> PrivateStep:
        model = upper(build, self.dropout)
        fields = {"noise_multiplier": 1.0, "expected_batch_size": 9, "steps": STEPS}
        privacy = dpft.Privacy(**{**fields, "delta": 1e-3, **self.privacy})
        trained = [p for p in model.parameters() if p.requires_grad]
        performance = Performance(frozen_prefix=self.place, max_physical_batch=self.cut)
        settings = StepSettings(performance, PinnedRandomness(2), self.synthetic)
        optimizer = torch.optim.SGD(trained, lr=0.1)
        return PrivateStep(model, optimizer, privacy, self.loss, settings)

    def released(self, build: Build) -> torch.Tensor:
        """Return the trained weights at the end."""
        step = self.step(build)
        for batch in step.batches(self.records, self.collate, self.owners):
            step(batch)
        return torch.cat([p.detach().flatten() for p in step._engine.parameters.values()])


@pytest.mark.parametrize(
    ("place", "cut"),
    [pytest.param(KEPT[0], 18, marks=pytest.mark.slow), (KEPT[1], 4)],
)
def test_the_cache_does_not_change_the_update(place: FrozenPrefix, cut: int, build: Build) -> None:
    without, cached = Case(cut=cut).released(build), Case(place, cut=cut).released(build)
    assert torch.allclose(cached, without, rtol=0, atol=1e-12)


def test_the_cache_does_not_change_the_update_of_users(build: Build) -> None:
    users = Case(
        owners=[f"user {index // 3}" for index in range(RECORDS)],
        privacy={"unit": "user", "expected_batch_size": 3},
    )
    cached = dataclasses.replace(users, place=FrozenPrefix.MEMORY).released(build)
    assert torch.allclose(cached, users.released(build), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_the_cache_does_not_change_a_run_that_is_not_private(build: Build) -> None:
    plain = Case(privacy={"noise_multiplier": None, "mode": "not_private"})
    cached = dataclasses.replace(plain, place=FrozenPrefix.MEMORY).released(build)
    assert torch.allclose(cached, plain.released(build), rtol=0, atol=1e-12)


def test_every_record_is_computed_once_and_only_if_it_is_used(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[tuple[int, ...]] = []
    states = FrozenBlocks.raw_states

    def counted(self: FrozenBlocks, loss: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found = states(self, loss, batch)
        computed.extend(map(tuple, batch["input_ids"].tolist()))
        return found

    used: set[tuple[int, ...]] = set()

    def watched(chosen: Sequence[Row]) -> dict[str, torch.Tensor]:
        used.update(tuple(row["input_ids"]) for row in chosen)
        return padded(chosen)

    step = Case(FrozenPrefix.MEMORY, collate=watched).step(build)
    batches = step.batches([{**row} for row in rows()], watched)
    used.clear()
    monkeypatch.setattr(FrozenBlocks, "raw_states", counted)
    step(next(batches))
    first = len(computed)
    for batch in batches:
        step(batch)
    unpadded = [tuple(token for token in ids if token) for ids in computed]
    assert 0 < first < len(computed) <= RECORDS
    assert len(set(unpadded)) == len(unpadded)
    assert set(unpadded) == used


def test_left_padding_is_refused(build: Build) -> None:
    def left(chosen: Sequence[Row]) -> dict[str, torch.Tensor]:
        turned = padded([{**row, "input_ids": row["input_ids"][::-1]} for row in chosen])
        return {name: value.flip(1) if value.dim() > 1 else value for name, value in turned.items()}

    with pytest.raises(BrokenGuaranteeError, match="padded on the right"):
        Case(FrozenPrefix.MEMORY, collate=left).released(build)


def test_records_that_change_from_step_to_step_are_refused(build: Build) -> None:
    class Changing(list[Row]):
        asked = 0

        def __getitem__(self, index: Any) -> Any:
            row = super().__getitem__(index)
            Changing.asked += 1
            shift = 3 + Changing.asked % 40
            return {**row, "input_ids": [shift] * len(row["input_ids"])}

    with pytest.raises(BrokenGuaranteeError, match="stay the same during a run"):
        Case(FrozenPrefix.MEMORY, records=Changing(rows())).released(build)


@pytest.mark.parametrize(
    "field", ["attention_mask", pytest.param("token_type_ids", marks=pytest.mark.slow)]
)
def test_masks_and_types_of_tokens_that_change_are_refused(field: str, build: Build) -> None:
    class Changing(list[Row]):
        asked = 0

        def __getitem__(self, index: Any) -> Any:
            row = super().__getitem__(index)
            Changing.asked += 1
            mine = torch.tensor([Changing.asked % 7, *[1] * (len(row["input_ids"]) - 1)]) > 0
            return {**row, field: mine.long().tolist()}

    with pytest.raises(BrokenGuaranteeError, match="stay the same during a run"):
        Case(FrozenPrefix.MEMORY, records=Changing(rows())).released(build)


def test_records_that_grew_since_the_start_are_refused(build: Build) -> None:
    records, step = rows(), Case(FrozenPrefix.MEMORY).step(build)
    batches = step.batches(records, padded)
    for index, row in enumerate(records):
        longer = {name: [*row[name], 1] for name in ("input_ids", "attention_mask")}
        records[index] = {**row, **longer}
    with pytest.raises(BrokenGuaranteeError, match="stay the same during a run"):
        step(next(batches))


@pytest.mark.slow
def test_tensors_as_rows_are_kept_like_lists(build: Build) -> None:
    made = [{name: torch.tensor(value) for name, value in row.items()} for row in rows()]

    def unpacked(chosen: Sequence[Row]) -> dict[str, torch.Tensor]:
        return padded(
            [{name: torch.as_tensor(v).tolist() for name, v in r.items()} for r in chosen]
        )

    case = Case(FrozenPrefix.MEMORY, records=made, collate=unpacked)
    synthetic = rows()[1:4]
    case = dataclasses.replace(case, synthetic=synthetic)
    expected = dataclasses.replace(case, records=rows(), place=FrozenPrefix.OFF).released(build)
    assert torch.allclose(case.released(build), expected, rtol=0, atol=1e-12)


class Coupling(nn.Module):
    """Adds to every record what stands before it in the batch; to the first one nothing."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        before = torch.cat([torch.zeros_like(hidden[:1]), hidden[:-1]])
        return hidden + before.mean(1, keepdim=True)


def test_frozen_blocks_that_couple_records_are_refused(build: Build) -> None:
    step = Case(FrozenPrefix.MEMORY).step(build)
    below = step._engine.model.get_submodule("bert.embeddings")
    below.LayerNorm = nn.Sequential(below.LayerNorm, Coupling())
    with pytest.raises(BrokenGuaranteeError, match="with and without kept states"):
        next(step.batches(rows(), padded))


def test_dropout_below_is_refused_before_the_first_step(build: Build) -> None:
    case = Case(FrozenPrefix.MEMORY, dropout=0.1)
    step = case.step(build)
    with pytest.raises(ConfigurationError, match="nothing random"):
        step.batches(rows(), padded)
    assert step.steps_taken == 0


def test_a_loss_that_runs_the_model_on_other_inputs_too_is_refused(build: Build) -> None:
    def twice(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        other = {**batch, "input_ids": (batch["input_ids"] + 1) % 50}
        of_one = Classification()
        return of_one(model, batch) + of_one(model, other)

    with pytest.raises(BrokenGuaranteeError, match="with and without kept states"):
        Case(FrozenPrefix.MEMORY, loss=twice).released(build)


def test_states_of_another_record_are_found_before_the_first_step(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = FrozenBlocks.raw_states
    monkeypatch.setattr(FrozenBlocks, "raw_states", lambda *given: states(*given).roll(1, 0))
    with pytest.raises(BrokenGuaranteeError, match="with and without kept states"):
        Case(FrozenPrefix.MEMORY).released(build)


def test_records_without_tokens_are_refused(build: Build) -> None:
    synthetic = SyntheticRecords([{"x": [1.0]}, {"x": [2.0]}], padded)
    engine = Engine(upper(build), Classification())
    with pytest.raises(ConfigurationError, match="input_ids"):
        PrefixCache.of(engine, synthetic)


def test_what_is_kept_is_deleted_at_the_end(build: Build) -> None:
    step = Case(FrozenPrefix.MEMORY).step(build)
    batches = step.batches(rows(), padded)
    step(next(batches))
    assert step._cached is not None
    assert any(step._cached.kept.has(list(range(RECORDS))))
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert not any(step._cached.kept.has(list(range(RECORDS))))


@pytest.mark.slow
def test_a_run_folder_is_the_same_with_and_without_the_cache(build: Build, tmp_path: Path) -> None:
    written = []
    for place in (FrozenPrefix.OFF, FrozenPrefix.DISK):
        out = tmp_path / place.value
        dpft.fit(
            upper(build),
            rows(),
            loss=Classification(),
            privacy=dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=9, steps=2),
            performance=Performance(frozen_prefix=place),
            out=out,
            options=FitOptions(step=StepSettings(randomness=PinnedRandomness(1))),
        )
        written.append({str(each.relative_to(out)) for each in out.rglob("*")})
    assert written[0] == written[1]
