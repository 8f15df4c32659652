"""The token budget that is found before the first step, on synthetic records."""

import types
from collections.abc import Mapping

import pytest
import torch
from torch import nn

import dpft
from dpft.engine.attachment import Engine
from dpft.errors import ConfigurationError
from dpft.performance import Performance
from dpft.physical_cut import PhysicalCut, Trial, freed, largest_that_fits
from dpft.preflight import SyntheticRecords
from dpft.records import Row, collate

VOCABULARY, POSITIONS = 9, 32
LONGEST = 24  # three quarters of the positions
ROWS: list[Row] = [
    {"input_ids": list(range(1, n)), "attention_mask": [1] * (n - 1), "labels": 0} for n in (4, 6)
]
PRIVACY = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=2, steps=1)


class Model(nn.Module):
    """The mean of learnt token scores, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.config = types.SimpleNamespace(
            vocab_size=VOCABULARY, num_labels=2, max_position_embeddings=POSITIONS
        )
        self.scores = nn.Embedding(VOCABULARY, 1)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("constant", torch.ones(1))


class Loss:
    """Lacks memory beyond a number of tokens, and remembers the shapes it was asked for."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        ids = batch["input_ids"]
        if ids.numel() > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.shapes.append(tuple(ids.shape))
        losses: torch.Tensor = model.dropout(model.scores(ids)).squeeze(-1).mean(1).square()
        return losses


def trial(loss: Loss, rows: list[Row] | None = None) -> Trial:
    synthetic = SyntheticRecords(rows or ROWS, lambda chosen: collate(chosen, 0))
    return Trial.of(Engine(Model(), loss), synthetic, PRIVACY)


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trial take the processor for an accelerator."""
    monkeypatch.setattr(Trial, "device", torch.device("cuda"))


@pytest.mark.parametrize("room", [1, 2, 3, 63, 64, 65, 1000])
def test_the_largest_power_of_two_that_fits_is_found(room: int) -> None:
    found = largest_that_fits(lambda records: records <= room, 100)
    assert found <= min(room, 100) < 2 * found


def test_nothing_that_fits_is_refused_before_any_step() -> None:
    with pytest.raises(ConfigurationError, match="largest length"):
        largest_that_fits(lambda _: False, 100)


@pytest.mark.usefixtures("accelerator")
def test_the_budget_is_what_fits_of_records_of_the_largest_length() -> None:
    loss = Loss(room=5 * LONGEST)
    cut = PhysicalCut(Performance())
    cut.settle(trial(loss))
    assert cut.raw_performance.token_budget == 4 * LONGEST
    assert (4, LONGEST) in loss.shapes
    assert (6, 16) in loss.shapes  # as many tokens in short records, which hold more gradients


@pytest.mark.usefixtures("accelerator")
def test_no_more_records_are_tried_than_a_batch_may_hold() -> None:
    loss = Loss(room=10**9)
    cut = PhysicalCut(Performance(max_physical_batch=3))
    cut.settle(trial(loss))
    assert cut.raw_performance.token_budget == 2 * LONGEST


@pytest.mark.usefixtures("accelerator")
def test_what_the_user_set_stays() -> None:
    loss = Loss(room=0)
    asked = Performance(token_budget=7, batch_overhead=3)
    cut = PhysicalCut(asked)
    cut.settle(trial(loss))
    assert cut.raw_performance == asked


def test_on_a_processor_nothing_is_tried() -> None:
    loss = Loss(room=0)
    cut = PhysicalCut(Performance())
    cut.settle(trial(loss))
    assert cut.raw_performance == Performance()


@pytest.mark.usefixtures("accelerator")
def test_the_search_leaves_model_and_randomness_as_they_were() -> None:
    looking = trial(Loss(room=5 * LONGEST))
    model = looking.engine.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    PhysicalCut(Performance()).settle(looking)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert type(model.scores.weight) is nn.Parameter


@pytest.mark.usefixtures("accelerator")
def test_records_of_unknown_fields_are_tried_as_the_user_gave_them() -> None:
    rows = [row | {"image": "a picture"} for row in ROWS]

    def without_pictures(chosen: list[Row]) -> dict[str, torch.Tensor]:
        return collate([{k: v for k, v in row.items() if k != "image"} for row in chosen], 0)

    loss = Loss(room=10**9)
    engine = Engine(Model(), loss)
    looking = Trial.of(engine, SyntheticRecords(rows, without_pictures), PRIVACY)
    assert looking.fits(2)
    assert loss.shapes[-1] == (2 * LONGEST // 5, 5)


def test_another_failure_of_a_trial_is_no_lack_of_memory() -> None:
    def broken() -> int:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="mismatch"):
        freed(broken)
