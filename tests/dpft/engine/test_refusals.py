"""Everything that would let a gradient by-pass clipping raises, and says what to do."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from torch.nn.utils import rnn

import dpft
from dpft.engine.attachment import Engine
from dpft.engine.captures import StepState, Target
from dpft.engine.sites import SiteTable
from dpft.errors import BrokenGuaranteeError, UnsupportedError
from dpft.preflight import SyntheticRecords, run_preflight

Batch = Mapping[str, torch.Tensor]
WIDTH = 4


def records(batch: int = 3, tokens: int = 5) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(batch, tokens, WIDTH)}


def mean(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch["x"]).flatten(1).mean(1)


class Applies(nn.Module):
    """Applies a function of (x, weight)."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH))
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.weight)


class Remembers(nn.Module):
    """Keeps a moving average of the records in a frozen parameter, as a codebook does."""

    def __init__(self, *, by_data: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.code = nn.Parameter(torch.ones(WIDTH, dtype=dtype), requires_grad=False)
        self.by_data = by_data

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            code = self.code.data if self.by_data else self.code
            code.copy_((0.5 * code + 50 * x.mean((0, 1)).abs()).to(code.dtype))
        return self.layer(x)


def test_records_written_into_a_frozen_parameter_are_refused() -> None:
    with pytest.raises(BrokenGuaranteeError, match="code"):
        dpft.per_record_gradients(Remembers(by_data=False), mean, records())


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_records_written_past_autograd_are_refused_by_the_preflight(dtype: torch.dtype) -> None:
    rows = [{"x": torch.randn(5, WIDTH).tolist()} for _ in range(3)]
    synthetic = SyntheticRecords(rows, lambda chosen: {"x": torch.tensor([r["x"] for r in chosen])})
    privacy = dpft.Privacy(noise_multiplier=1.0, delta=1e-5, steps=1)
    with pytest.raises(BrokenGuaranteeError, match="frozen parameters that changed"):
        run_preflight(Engine(Remembers(by_data=True, dtype=dtype), mean), synthetic, privacy)


def test_complex_tensors_are_refused() -> None:
    model = Applies(
        lambda x, w: (torch.view_as_complex(x.reshape(*x.shape[:2], 2, 2)) * w[0]).abs()
    )
    with pytest.raises(UnsupportedError, match="complex"):
        dpft.per_record_gradients(model, mean, records())


def test_a_backward_pass_inside_the_loss_is_refused() -> None:
    def adversarial(model: nn.Module, batch: Batch) -> torch.Tensor:
        x = batch["x"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(mean(model, {"x": x}).sum(), x)
        return mean(model, {"x": (x + slope.sign()).detach()})

    with pytest.raises(BrokenGuaranteeError, match="inside the loss"):
        dpft.per_record_gradients(nn.Linear(WIDTH, WIDTH), adversarial, records())


def test_nothing_is_captured_once_the_pass_is_over() -> None:
    state = StepState(3, {}, SiteTable({}))
    state.capturing = True
    state.finish()
    with pytest.raises(BrokenGuaranteeError, match="one backward pass"):
        state.capture(Target(0, is_leaf=True), torch.zeros(3, 2))


class Double(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * weight

    @staticmethod
    def backward(_: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return grad, grad.sum((0, 1))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return weight**2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * grad


def test_a_batch_mean_is_refused() -> None:
    model = Applies(lambda x, weight: x * (weight + x.mean(dim=(0, 1))))
    with pytest.raises(UnsupportedError, match="mixes records"):
        dpft.per_record_gradients(model, mean, records())


def test_a_batch_mean_equal_in_shape_to_a_constant_is_refused() -> None:
    model = Applies(lambda x, weight: x + weight * x.sum(0)[0])
    with pytest.raises(UnsupportedError, match="mixes records"):
        dpft.per_record_gradients(model, mean, records())


def test_a_mean_over_the_batch_as_loss_is_refused() -> None:
    model = Applies(lambda x, weight: x * weight)
    with pytest.raises(BrokenGuaranteeError, match="losses of shape"):
        dpft.per_record_gradients(model, lambda m, b: m(b["x"]).mean().reshape(1), records())


def test_losses_with_a_trailing_dimension_are_refused() -> None:
    model = Applies(lambda x, weight: x * weight)
    with pytest.raises(BrokenGuaranteeError, match="losses of shape"):
        dpft.per_record_gradients(model, lambda m, b: mean(m, b).unsqueeze(1), records())


def test_a_loss_of_parameters_alone_is_refused() -> None:
    model = Applies(lambda x, weight: x * weight)
    with pytest.raises(BrokenGuaranteeError):
        dpft.per_record_gradients(model, lambda m, b: m.weight.sum().expand(len(b["x"])), records())


def test_a_custom_function_that_mixes_records_and_parameters_is_refused_by_name() -> None:
    def late(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        doubled: torch.Tensor = Double.apply(x, weight)
        return doubled

    model = Applies(late)
    with pytest.raises(UnsupportedError, match="Double"):
        dpft.per_record_gradients(model, mean, records())


def test_a_custom_function_bound_before_the_step_is_refused() -> None:
    with pytest.raises(BrokenGuaranteeError):
        dpft.per_record_gradients(Applies(Double.apply), mean, records())


def test_a_custom_function_of_parameters_alone_is_an_expression() -> None:
    model, data = Applies(lambda x, weight: x * Square.apply(weight)), records()
    got = dpft.per_record_gradients(model, mean, data)["weight"]
    expected = 2 * model.weight * data["x"].sum(1) / (5 * WIDTH)
    assert torch.allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, weight: x + weight.add_(1.0),
        lambda x, weight: torch.mul(x, weight, out=torch.empty_like(x)),
        lambda x, weight: x + torch.zeros(WIDTH).add_(weight),
        lambda x, weight: x.clone().masked_scatter_(x > 0, weight.repeat(100)),
        lambda x, weight: x + torch.zeros(WIDTH).copy_(weight),
    ],
    ids=["into_parameter", "out", "into_constant", "masked_scatter", "copy_into_constant"],
)
def test_in_place_forms_outside_the_list_are_refused(function: Any) -> None:
    with pytest.raises(UnsupportedError, match="in-place"):
        dpft.per_record_gradients(Applies(function), mean, records())


def test_time_major_records_are_found_or_refused() -> None:
    layer = nn.MultiheadAttention(WIDTH, 2)

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        x = batch["x"].transpose(0, 1)
        return model(x, x, x, need_weights=False)[0].transpose(0, 1).flatten(1).sum(1)

    with pytest.raises(UnsupportedError):
        dpft.per_record_gradients(layer, loss, records())


def test_a_module_that_couples_records_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(5 * WIDTH, 3), nn.BatchNorm1d(3))
    with pytest.raises(UnsupportedError, match="BatchNorm1d"):
        dpft.per_record_gradients(model, mean, records())


def test_a_subclass_of_batch_norm_is_refused_by_class() -> None:
    class NormAct(nn.BatchNorm1d):
        pass

    model = nn.Sequential(nn.Flatten(), NormAct(5 * WIDTH).eval().train(), nn.Linear(20, 3))
    with pytest.raises(UnsupportedError, match="batch statistics"):
        dpft.per_record_gradients(model, mean, records())


def test_hooks_on_gradients_are_refused() -> None:
    model = nn.Linear(WIDTH, 2)
    handle = model.weight.register_post_accumulate_grad_hook(print)
    with pytest.raises(BrokenGuaranteeError, match="hook"):
        Engine(model, mean)
    handle.remove()
    model.bias.register_hook(lambda grad: grad)
    with pytest.raises(BrokenGuaranteeError, match="bias"):
        Engine(model, mean)


def test_a_hook_set_after_the_start_is_refused() -> None:
    model = nn.Linear(WIDTH, 2)
    engine = Engine(model, mean)
    model.weight.register_post_accumulate_grad_hook(print)
    with pytest.raises(BrokenGuaranteeError, match="hook"):
        engine.raw_gradients(records())


def test_rows_of_a_table_may_be_used_beside_the_table() -> None:
    def function(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rows = weight[x.argmax(-1)]  # indices that carry records
        return x * weight + rows.unsqueeze(-1)

    model, data = Applies(function), records()
    assert dpft.per_record_gradients(model, mean, data)["weight"].shape == (3, WIDTH)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own imports
def test_a_compiled_model_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="compiled"):
        Engine(torch.compile(nn.Linear(WIDTH, 2)), mean)


def test_data_parallel_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="DataParallel"):
        Engine(nn.DataParallel(nn.Linear(WIDTH, 2)), mean)


def test_merged_and_disabled_adapters_are_refused() -> None:
    model = get_peft_model(nn.Sequential(nn.Linear(WIDTH, WIDTH)), LoraConfig(target_modules=["0"]))
    model.merge_adapter()
    with pytest.raises(UnsupportedError, match="merged"):
        Engine(model, mean)
    model.unmerge_adapter()
    with model.disable_adapter(), pytest.raises(UnsupportedError, match="isabled"):
        Engine(model, mean)


def test_a_parameter_subclass_is_refused() -> None:
    class Strange(nn.Parameter):
        pass

    model = nn.Linear(WIDTH, 2)
    model.weight = Strange(torch.randn(2, WIDTH))
    with pytest.raises(BrokenGuaranteeError, match="plain torch"):
        Engine(model, mean)


def test_a_parameter_made_trainable_late_is_refused() -> None:
    model = nn.Linear(WIDTH, 2)
    model.bias.requires_grad_(requires_grad=False)
    engine = Engine(model, mean)
    model.bias.requires_grad_(requires_grad=True)
    with pytest.raises(BrokenGuaranteeError, match="bias"):
        engine.raw_gradients(records())


def test_a_replaced_parameter_is_refused() -> None:
    model = nn.Linear(WIDTH, 2)
    engine = Engine(model, mean)
    model.weight = nn.Parameter(torch.randn(2, WIDTH))
    with pytest.raises(BrokenGuaranteeError, match="new tensors"):
        engine.raw_gradients(records())


def test_a_gradient_that_was_there_before_is_refused_and_deleted() -> None:
    model = nn.Linear(WIDTH, 2)
    engine = Engine(model, mean)
    mean(model, records()).sum().backward()
    with pytest.raises(BrokenGuaranteeError, match="before the backward"):
        engine.raw_gradients(records())
    assert model.weight.grad is None


def test_a_gradient_that_by_passed_the_engine_is_refused_and_deleted() -> None:
    model = nn.Linear(WIDTH, 2)

    def leaking(model: nn.Module, batch: Batch) -> torch.Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return functional.linear(batch["x"], model.weight, model.bias).flatten(1).mean(1)

    with pytest.raises(BrokenGuaranteeError, match="after the backward"):
        dpft.per_record_gradients(model, leaking, records())
    assert model.weight.grad is None


def test_an_expression_with_a_stranger_among_its_leaves_is_refused() -> None:
    stranger = torch.randn(WIDTH, requires_grad=True)
    model = Applies(lambda x, weight: x * (weight * stranger))
    with pytest.raises(BrokenGuaranteeError, match="attached parameters"):
        dpft.per_record_gradients(model, mean, records())


def test_a_stranger_at_a_boundary_is_refused() -> None:
    stranger = torch.randn(WIDTH, requires_grad=True)
    model = Applies(lambda x, weight: torch.addcmul(x, weight, stranger))
    with pytest.raises(BrokenGuaranteeError, match="not"):
        dpft.per_record_gradients(model, mean, records())


def test_a_parameter_kept_from_an_earlier_step_is_refused() -> None:
    kept: list[torch.Tensor] = []

    def function(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        kept.append(weight * 2)
        return x * kept[0]

    with pytest.raises(BrokenGuaranteeError):
        dpft.per_record_gradients(Applies(function), mean, records())


def test_tensors_of_different_length_in_a_batch_are_refused() -> None:
    model = nn.Linear(WIDTH, 2)
    with pytest.raises(BrokenGuaranteeError, match="same first dimension"):
        dpft.per_record_gradients(model, mean, {"x": torch.randn(3, WIDTH), "y": torch.ones(2)})


def test_a_model_without_trainable_parameters_is_refused() -> None:
    model = nn.Linear(WIDTH, 2).requires_grad_(requires_grad=False)
    with pytest.raises(BrokenGuaranteeError, match="nothing to train"):
        dpft.per_record_gradients(model, mean, records())


def test_a_position_in_the_batch_cannot_be_learned() -> None:
    class ByPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(50, 1, WIDTH))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.table[: len(x)]

    with pytest.raises(UnsupportedError, match="expand"):
        dpft.per_record_gradients(ByPlace(), mean, records())


class Doubles(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(_context: Any, grad: torch.Tensor) -> torch.Tensor:
        return 2 * grad


def first_places(mask: torch.Tensor) -> torch.Tensor:
    return torch.nonzero_static(mask.flatten(), size=3 * len(mask)).squeeze(1)


def written_whole(rows: torch.Tensor) -> torch.Tensor:
    room = torch.zeros(len(rows), WIDTH)
    room[:] = rows
    return room


@pytest.mark.parametrize("lengths", [(5, 5, 5), (5, 3, 5), (5, 3, 4)], ids=str)
@pytest.mark.parametrize(
    "selection",
    [
        "mask", "mask_and_all", "nonzero", "masked_select", "function", "where_by_name",
        "nonzero_static", "repeated", "repeated_by_name", "packed_sequence", "written_whole",
        "copied", "lengths_in_python", "mask_from_python", "dimension_not_compared",
    ],
)  # fmt: skip
def test_records_of_unequal_length_on_one_axis_are_refused(
    lengths: tuple[int, ...], selection: str
) -> None:
    def packed(model: nn.Module, batch: Batch) -> torch.Tensor:
        mask, x = batch["attention_mask"].bool(), batch["x"]
        rows = {
            "mask": lambda: x[mask],
            "function": lambda: Doubles.apply(x[mask]),
            "mask_and_all": lambda: x[mask, :],
            "nonzero": lambda: x.flatten(0, 1)[mask.flatten().nonzero().squeeze(1)],
            "masked_select": lambda: x.masked_select(mask.unsqueeze(-1)).view(-1, WIDTH),
            "where_by_name": lambda: x[torch.where(condition=mask)],
            "nonzero_static": lambda: x.flatten(0, 1)[first_places(mask)],
            "repeated": lambda: x.flatten(0, 1)[torch.repeat_interleave(mask.flatten().long())],
            "repeated_by_name": lambda: x.flatten(0, 1).repeat_interleave(
                repeats=mask.flatten().long(), dim=0
            ),
            "packed_sequence": lambda: (
                rnn.pack_padded_sequence(
                    x, mask.sum(1), batch_first=True, enforce_sorted=False
                ).data
            ),
            "written_whole": lambda: written_whole(x[mask]),
            "copied": lambda: torch.zeros(int(mask.sum()), WIDTH).index_copy(
                0, torch.arange(int(mask.sum())), x[mask]
            ),
            "lengths_in_python": lambda: torch.cat(
                [one[:length] for one, length in zip(x, mask.sum(1).tolist(), strict=True)]
            ),
            "mask_from_python": lambda: x[torch.tensor(mask.tolist())],
            "dimension_not_compared": lambda: x[mask].view(len(x), -1, WIDTH),
        }[selection]()
        flat = model(rows * 2)
        out = flat.new_zeros(*mask.shape, flat.shape[-1]).masked_scatter(mask.unsqueeze(-1), flat)
        return out.flatten(1).mean(1)

    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    with pytest.raises(UnsupportedError, match="unequal length"):
        dpft.per_record_gradients(
            nn.Linear(WIDTH, 2), packed, {**records(), "attention_mask": mask.long()}
        )
