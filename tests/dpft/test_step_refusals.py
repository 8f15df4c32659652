"""What would void a step raises before the optimiser moves."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import nn

import dpft
from dpft.engine.refusals import refuse_unsupported_optimizer
from dpft.errors import BrokenGuaranteeError, UnsupportedError
from dpft.private_step import PrivateStep
from dpft.records import Row
from dpft.sampling import LogicalBatch

WIDTH = 4


def collate(chosen: Sequence[Row]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in chosen]) for name in chosen[0]}


def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return (model(batch["x"]).squeeze(-1) - batch["y"]).square()


class Run:
    """A step whose first batch is drawn and not yet used."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh(), nn.Linear(3, 1), nn.Dropout(0.1))
        self.model.register_module("frozen", nn.Linear(1, 1).requires_grad_(requires_grad=False))
        self.optimizer = torch.optim.SGD(
            [p for p in self.model.parameters() if p.requires_grad], lr=1.0
        )
        privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=20, steps=3)
        self.step = PrivateStep(self.model, self.optimizer, privacy, loss)
        rows = [{"x": torch.randn(WIDTH).tolist(), "y": float(index)} for index in range(60)]
        self.batch: LogicalBatch = next(iter(self.step.batches(rows, collate)))

    def weights(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]


def leave_a_gradient(run: Run) -> None:
    run.model[0].weight.grad = torch.ones_like(run.model[0].weight)


def train_another_parameter(run: Run) -> None:
    run.model.frozen.requires_grad_(requires_grad=True)


def freeze_a_parameter(run: Run) -> None:
    run.model[0].requires_grad_(requires_grad=False)


def replace_a_parameter(run: Run) -> None:
    run.model[0].weight = nn.Parameter(torch.zeros(3, WIDTH))


def step_during_backward(run: Run) -> None:
    def step(parameter: torch.Tensor) -> None:
        parameter.data.sub_(parameter.grad)

    run.model[0].weight.register_post_accumulate_grad_hook(step)


def hold_a_stranger(run: Run) -> None:
    run.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def drop_a_parameter(run: Run) -> None:
    run.optimizer.param_groups[0]["params"].pop()


def change_the_mode(run: Run) -> None:
    run.model.eval()


def couple_the_records(run: Run) -> None:
    run.model[1] = nn.BatchNorm1d(3, affine=False, track_running_stats=False)


@pytest.mark.parametrize(
    "sabotage",
    [
        leave_a_gradient,
        train_another_parameter,
        freeze_a_parameter,
        replace_a_parameter,
        step_during_backward,
        hold_a_stranger,
        drop_a_parameter,
        change_the_mode,
        couple_the_records,
    ],
    ids=lambda sabotage: sabotage.__name__,
)
def test_what_changed_since_the_preflight_raises_before_the_optimiser_moves(
    sabotage: Callable[[Run], None],
) -> None:
    run = Run()
    sabotage(run)
    before = run.weights()
    with pytest.raises(BrokenGuaranteeError):
        run.step(run.batch)
    for weight, kept in zip(run.weights(), before, strict=True):
        assert torch.equal(weight, kept)


def test_a_step_takes_no_closure() -> None:
    run = Run()
    with pytest.raises(BrokenGuaranteeError, match=r"step\.batches"):
        run.step(lambda: loss(run.model, {}))


def test_optimisers_of_torch_are_taken_with_a_schedule() -> None:
    parameters = [nn.Parameter(torch.zeros(2))]
    for kind in (torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad):
        optimizer = kind(parameters, lr=0.1)
        torch.optim.lr_scheduler.ConstantLR(optimizer)  # wraps step
        refuse_unsupported_optimizer(optimizer)


def test_a_gradient_scaler_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="GradScaler"):
        refuse_unsupported_optimizer(torch.amp.GradScaler("cpu"))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    setattr(optimizer, "scaler", torch.amp.GradScaler("cpu"))  # noqa: B010 - as accelerate's has it
    with pytest.raises(UnsupportedError, match="SGD"):
        refuse_unsupported_optimizer(optimizer)


def test_an_optimiser_that_needs_a_closure_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="LBFGS"):
        refuse_unsupported_optimizer(torch.optim.LBFGS([nn.Parameter(torch.zeros(2))]))


def test_gradient_clipping_before_the_step_is_refused() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_([weight], 1.0))
    with pytest.raises(UnsupportedError, match="hook"):
        refuse_unsupported_optimizer(optimizer)
