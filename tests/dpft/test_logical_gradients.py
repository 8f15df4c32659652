"""Memory that runs out in the middle of a logical batch: begun anew, finer, and nobody is told."""

import dataclasses
import gc
import logging
import types
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import dpft
from dpft.errors import BrokenGuaranteeError
from dpft.performance import Performance
from dpft.private_step import PrivateStep, StepSettings
from dpft.randomness import PinnedRandomness
from dpft.records import Row, collate

VOCABULARY, RECORDS, BUDGET, LONGEST = 8, 12, 24, 6
LACKS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    """Take what was imported out of the collections that follow a lack of memory."""
    gc.freeze()
    yield
    gc.unfreeze()


class Model(nn.Module):
    """A linear score of dropped-out tokens; a buffer that a pass must not leave changed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = types.SimpleNamespace(vocab_size=VOCABULARY, num_labels=2)
        self.dropout = nn.Dropout(0.3)
        self.score = nn.Linear(VOCABULARY, 1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = self.score(self.dropout(functional.one_hot(ids, VOCABULARY).float())).squeeze(-1)
        return (scores * mask).sum(1) / mask.sum(1)


@dataclasses.dataclass
class Loss:
    """A squared error; memory runs out in chosen passes, forward or backward."""

    fails_at: range = range(0)
    in_backward: bool = False
    error: BaseException = LACKS[0]
    is_counting: bool = False
    sizes: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        losses = model(batch["input_ids"], batch["attention_mask"])
        losses = (losses - batch["labels"]).square()
        if self.is_counting:
            self.sizes.append(batch["input_ids"].numel())
            if len(self.sizes) - 1 in self.fails_at:
                model.seen.add_(1)
                if not self.in_backward:
                    raise self.error
                losses.register_hook(self._fail)
        return losses

    def _fail(self, _grad: torch.Tensor) -> None:
        raise self.error


def rows() -> list[Row]:
    generator = torch.Generator().manual_seed(3)
    lengths = [1 + index % LONGEST for index in range(RECORDS)]
    return [
        {
            "input_ids": torch.randint(VOCABULARY, (length,), generator=generator).tolist(),
            "attention_mask": [1] * length,
            "labels": index % 2,
        }
        for index, length in enumerate(lengths)
    ]


class Run:
    """A step over users or records, private or not, and what it does to the weights."""

    def __init__(self, loss: Loss, kind: str = "records", budget: int = BUDGET) -> None:
        self.model, self.loss = Model(), loss
        fields: dict[str, Any] = {"delta": 1e-3, "steps": 2, "noise_multiplier": 1.0}
        self.owners = None
        fields["expected_batch_size"] = RECORDS
        if kind == "users":
            self.owners = [f"user {max(0, index - 7)}" for index in range(RECORDS)]
            fields |= {"unit": "user", "expected_batch_size": len(set(self.owners))}
        if kind == "not private":
            del fields["noise_multiplier"]
            fields["mode"] = "not_private"
        settings = StepSettings(
            randomness=PinnedRandomness(1), performance=Performance(token_budget=budget)
        )
        optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.step = PrivateStep(self.model, optimizer, dpft.Privacy(**fields), loss, settings)
        self.batches = self.step.batches(rows(), lambda chosen: collate(chosen, 0), self.owners)
        for padded in (rows(), rows()[:1]):  # so that no probe runs later, whose passes would count
            self.step._engine.gradients(collate(padded, 0))

    def weights(self) -> torch.Tensor:
        """Take a step and return the weights after it."""
        batch = next(self.batches)
        self.loss.is_counting = True
        try:
            self.step(batch)
        finally:
            self.loss.is_counting = False
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


@pytest.mark.parametrize(
    ("kind", "in_backward"),
    [
        ("records", True),
        ("users", False),
        ("not private", True),
        pytest.param("records", False, marks=pytest.mark.slow),
        pytest.param("users", True, marks=pytest.mark.slow),
        pytest.param("not private", False, marks=pytest.mark.slow),
    ],
)
def test_wherever_memory_runs_out_the_step_is_that_of_the_finer_cut(
    kind: str, in_backward: bool
) -> None:
    undisturbed = Loss()
    Run(undisturbed, kind).weights()
    reference = Run(Loss(), kind, budget=BUDGET // 2)
    expected = reference.weights()
    assert len(undisturbed.sizes) > 1
    for index in range(len(undisturbed.sizes)):
        run = Run(Loss(range(index, index + 1), in_backward), kind)
        assert torch.equal(run.weights(), expected)  # dropout, noise and sample included
        assert float(run.model.seen) == 0
        assert all(p.grad is None for p in run.model.parameters())


@pytest.mark.parametrize("error", LACKS)
def test_every_way_in_which_torch_says_it_is_known(error: BaseException) -> None:
    finer = Run(Loss(), budget=BUDGET // 2).weights()
    assert torch.equal(Run(Loss(range(1, 2), error=error)).weights(), finer)


def test_the_budget_is_halved_as_often_as_needed_and_stays_so() -> None:
    run = Run(loss := Loss(range(2)))
    run.weights()
    assert BUDGET // 2 < loss.sizes[0] <= BUDGET
    assert max(loss.sizes[2:]) <= max(BUDGET // 4, LONGEST)
    first = len(loss.sizes)
    run.weights()
    assert max(loss.sizes[first:]) <= max(BUDGET // 4, LONGEST)


def test_a_record_that_does_not_fit_by_itself_ends_the_run_charged() -> None:
    run = Run(loss := Loss(range(1000)))
    before = [p.detach().clone() for p in run.model.parameters()]
    with pytest.raises(torch.OutOfMemoryError, match="at least one by one"):
        run.weights()
    assert loss.sizes[-1] == LONGEST
    assert run.step.steps_taken == 1
    assert all(map(torch.equal, before, run.model.parameters()))
    with pytest.raises(BrokenGuaranteeError, match="no step after one that failed"):
        next(run.batches)


def test_another_failure_is_not_tried_again() -> None:
    run = Run(loss := Loss(range(1), error=RuntimeError("the device is gone")))
    with pytest.raises(RuntimeError, match="gone"):
        run.weights()
    assert len(loss.sizes) == 1


def test_backing_off_is_silent(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    run = Run(Loss(range(1, 2)))
    run.weights()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert repr(run.step._cut) == "PhysicalCut()"
    assert run.step._settings.performance == Performance(token_budget=BUDGET)


def test_where_processes_share_the_weights_none_begins_anew() -> None:
    run = Run(loss := Loss(range(1)))
    run.step._cut.fix()
    with pytest.raises(torch.OutOfMemoryError):
        run.weights()
    assert len(loss.sizes) == 1
