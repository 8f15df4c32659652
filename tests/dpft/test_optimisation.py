"""Optimiser, schedule, head and averaging of one run, alone and inside `dpft.fit`."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft.adam_bc import AdamBC
from dpft.averaging import momentum_at
from dpft.errors import ConfigurationError
from dpft.losses import Classification
from dpft.optim import Averaging, Optim, OptimizerName, Schedule
from dpft.optimisation import Optimisation, head_names
from dpft.privacy import PrivacyMode
from dpft.private_step import StepSettings
from dpft.progress import Progress
from dpft.randomness import PinnedRandomness
from dpft.training import FitOptions

WIDTH, RECORDS, EXPECTED, STEPS = 4, 60, 15, 8
EMA = Optim(averaging=Averaging.EMA, averaging_decay=0.6, learning_rate=0.05)
ROWS = [{"input_ids": [index % 7 + 1] * 2, "y": index % 7 / 7} for index in range(RECORDS)]
SYNTHETIC = [{"input_ids": [index] * index, "y": index / 2} for index in (1, 2, 3, 4)]
SECRET = FitOptions(step=StepSettings(synthetic=SYNTHETIC))
PINNED = FitOptions(step=StepSettings(randomness=PinnedRandomness(3), synthetic=SYNTHETIC))
needs_bert = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(WIDTH, 1)


def bert() -> nn.Module:
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=30,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def lora(target: str = "query") -> LoraConfig:
    return LoraConfig(
        task_type="SEQ_CLS", target_modules=[target], r=2, modules_to_save=["classifier"]
    )


def loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    total = batch["input_ids"].sum(1, keepdim=True) / 10  # padding is 0
    return (model(total * torch.arange(1, WIDTH + 1)).squeeze(-1) - batch["y"]).square()


def privacy(**changes: Any) -> dpft.Privacy:
    fields = {"delta": 1e-3, "expected_batch_size": EXPECTED, "steps": STEPS, "clip_norm": 0.5}
    noise = {} if "mode" in changes else {"noise_multiplier": 2.0}
    return dpft.Privacy(**{**fields, **noise, **changes})


def made(model: nn.Module, optim: Optim, **changes: Any) -> Optimisation:
    return Optimisation.of(model, optim, privacy(**changes).plan(RECORDS))


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters() if p.requires_grad])


def take_steps(model: nn.Module, optimisation: Optimisation, numbers: range) -> None:
    """Take steps by gradients that depend on the step's number alone."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimisation.optimizer.step()
        optimisation.advance()


def through_text(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Return what JSON can hold of a state, its tensors moved into a table of their own."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        return {key: through_text(item, tensors, f"{path}/{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [through_text(item, tensors, f"{path}/{i}") for i, item in enumerate(value)]
    return value


def back(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict) and set(value) == {"tensor"}:
        return tensors[value["tensor"]]
    if isinstance(value, dict):
        return {key: back(item, tensors) for key, item in value.items()}
    return [back(item, tensors) for item in value] if isinstance(value, list) else value


def test_finish_releases_the_average_and_nothing_before_does() -> None:
    model, plain = linear(), linear()
    averaged, last = made(model, EMA), made(plain, dataclasses.replace(EMA, averaging="none"))
    expected = flat(model)
    for number in range(STEPS):
        take_steps(model, averaged, range(number, number + 1))
        take_steps(plain, last, range(number, number + 1))
        assert torch.equal(flat(model), flat(plain))  # averaging does not touch the iterates
        weight = momentum_at(number + 1, 0.6)
        expected = weight * expected + (1 - weight) * flat(plain)
    averaged.finish()
    torch.testing.assert_close(flat(model), expected)
    assert not torch.allclose(flat(model), flat(plain))


def test_without_averaging_finish_leaves_the_last_iterate() -> None:
    model = linear()
    optimisation = made(model, Optim())
    take_steps(model, optimisation, range(3))
    last = flat(model)
    optimisation.finish()
    assert torch.equal(flat(model), last)


def test_frozen_parameters_are_not_averaged() -> None:
    model = nn.Sequential(linear(), linear())
    model[0].requires_grad_(requires_grad=False)
    state = made(model, EMA).state_dict()
    assert set(state["average"]["average"]) == {"1.weight", "1.bias"}


@pytest.mark.parametrize("name", list(OptimizerName))
@pytest.mark.parametrize("averaging", list(Averaging))
def test_resuming_through_json_and_tensors_equals_no_interruption(
    name: OptimizerName, averaging: Averaging
) -> None:
    optim = Optim(name=name, averaging=averaging, weight_decay=0.1, learning_rate=0.01)
    whole, model, resumed = linear(), linear(), linear()
    uninterrupted = made(whole, optim)
    take_steps(whole, uninterrupted, range(STEPS))
    first = made(model, optim)
    take_steps(model, first, range(3))
    tensors: dict[str, torch.Tensor] = {}
    state = back(json.loads(json.dumps(through_text(first.state_dict(), tensors))), tensors)
    resumed.load_state_dict(model.state_dict())
    second = made(resumed, optim)
    second.load_state_dict(state)
    take_steps(resumed, second, range(3, STEPS))
    assert torch.equal(flat(resumed), flat(whole))
    uninterrupted.finish()
    second.finish()
    assert torch.equal(flat(resumed), flat(whole))


@pytest.mark.parametrize("name", list(OptimizerName))
def test_a_state_holds_tensors_and_what_json_knows(name: OptimizerName) -> None:
    model = linear()
    optimisation = made(model, dataclasses.replace(EMA, name=name))
    take_steps(model, optimisation, range(2))
    tensors: dict[str, torch.Tensor] = {}
    text = through_text(optimisation.state_dict(), tensors)
    assert json.loads(json.dumps(text)) == text  # a tuple or a key that is no string would differ
    assert tensors


@pytest.mark.parametrize("name", [OptimizerName.ADAM, OptimizerName.ADAM_BC])
def test_a_state_is_a_snapshot(name: OptimizerName) -> None:
    model = linear()
    optimisation = made(model, dataclasses.replace(EMA, name=name))
    take_steps(model, optimisation, range(2))
    state = optimisation.state_dict()
    kept: dict[str, torch.Tensor] = {}
    text = json.dumps(through_text(state, kept))
    kept = {path: value.clone() for path, value in kept.items()}
    optimisation.load_state_dict(state)
    take_steps(model, optimisation, range(2, 4))
    seen: dict[str, torch.Tensor] = {}
    assert json.dumps(through_text(state, seen)) == text
    assert all(torch.equal(seen[path], value) for path, value in kept.items())


@pytest.mark.parametrize(("saved", "now"), [(EMA, Optim()), (Optim(), EMA)])
def test_a_state_of_other_averaging_is_refused(saved: Optim, now: Optim) -> None:
    state = made(linear(), saved).state_dict()
    with pytest.raises(ConfigurationError, match=r"Expected optim\.averaging"):
        made(linear(), now).load_state_dict(state)


def test_adam_bc_subtracts_the_noise_of_the_plan() -> None:
    optim = Optim(name=OptimizerName.ADAM_BC, betas=(0.8, 0.9), eps=1e-5, noise_floor=0.3)
    optimizer = made(linear(), optim).optimizer
    assert isinstance(optimizer, AdamBC)
    (group,) = optimizer.param_groups
    assert group["noise_variance"] == pytest.approx((2.0 * 0.5 / EXPECTED) ** 2)
    assert (group["betas"], group["eps"], group["noise_floor"]) == ((0.8, 0.9), 1e-5, 0.3)


def test_adam_bc_without_noise_follows_adam() -> None:
    ours, theirs = linear(), linear()
    mode = PrivacyMode.NOT_PRIVATE
    take_steps(ours, made(ours, Optim(name=OptimizerName.ADAM_BC), mode=mode), range(STEPS))
    take_steps(theirs, made(theirs, Optim(), mode=mode), range(STEPS))
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [OptimizerName.ADAM, OptimizerName.ADAMW])
def test_adam_gets_its_constants(name: OptimizerName) -> None:
    optim = Optim(name=name, betas=(0.7, 0.8), eps=1e-4, weight_decay=0.2, learning_rate=0.3)
    group = made(linear(), optim).optimizer.param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.7, 0.8), 1e-4)
    assert (group["weight_decay"], group["lr"]) == (0.2, 0.3)


@needs_bert
def test_the_head_under_lora_is_what_peft_trains_whole() -> None:
    model = get_peft_model(bert(), lora())
    head = "base_model.model.classifier.modules_to_save.default"
    assert head_names(model) == {f"{head}.weight", f"{head}.bias"}


@needs_bert
def test_lora_inside_an_output_layer_is_no_head() -> None:
    config = LoraConfig(target_modules=["classifier"], r=2)
    model = get_peft_model(bert(), config)
    assert any("classifier.lora_A" in name for name, p in model.named_parameters())
    assert head_names(model) == frozenset()


@needs_bert
def test_without_an_adapter_the_head_is_known_by_name() -> None:
    model = bert()
    assert head_names(model) == {"classifier.weight", "classifier.bias"}
    model.classifier.bias.requires_grad_(requires_grad=False)
    assert head_names(model) == {"classifier.weight"}


@needs_bert
@pytest.mark.parametrize("name", list(OptimizerName))
def test_the_head_alone_has_the_multiple_of_the_learning_rate(name: OptimizerName) -> None:
    model = get_peft_model(bert(), lora())
    optim = Optim(
        name=name, learning_rate=0.1, head_learning_rate_factor=5, schedule=Schedule.LINEAR
    )
    optimisation = made(model, optim)
    rates = {
        id(parameter): group["lr"]
        for group in optimisation.optimizer.param_groups
        for parameter in group["params"]
    }
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = {name for name in trained if "classifier" in name}
    assert rates.keys() == {id(p) for p in trained.values()}
    for each, parameter in trained.items():
        assert rates[id(parameter)] == pytest.approx(0.5 if each in head else 0.1)
    take_steps(model, optimisation, range(STEPS // 2))
    assert [group["lr"] for group in optimisation.optimizer.param_groups] == [
        pytest.approx(0.05),
        pytest.approx(0.25),
    ]


def test_a_model_that_is_all_head_has_one_group() -> None:
    model = nn.ModuleDict({"score": linear()})
    (group,) = made(
        model, Optim(learning_rate=0.1, head_learning_rate_factor=2)
    ).optimizer.param_groups
    assert group["lr"] == pytest.approx(0.2)


def test_a_factor_without_a_head_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Expected head_learning_rate_factor=2"):
        made(linear(), Optim(head_learning_rate_factor=2))


def fitted(optim: Optim, options: FitOptions = PINNED, **arguments: Any) -> dpft.FitResult:
    return dpft.fit(
        linear(), ROWS, loss=loss, privacy=privacy(), optim=optim, options=options, **arguments
    )


def test_fit_releases_the_average_of_its_iterates() -> None:
    model, path = linear(), []
    expected = flat(model)

    def watch(_: Progress) -> None:
        path.append(flat(model))

    arguments: dict[str, Any] = {"loss": loss, "privacy": privacy(), "options": PINNED}
    dpft.fit(model, ROWS, optim=EMA, on_step=watch, **arguments)
    for step, iterate in enumerate(path, start=1):
        weight = momentum_at(step, 0.6)
        expected = weight * expected + (1 - weight) * iterate
    assert len(path) == STEPS
    torch.testing.assert_close(flat(model), expected)
    last = fitted(dataclasses.replace(EMA, averaging=Averaging.NONE))
    assert torch.equal(path[-1], flat(last.model))


@needs_bert
def test_the_adapter_on_disk_is_the_average(tmp_path: Path) -> None:
    rows = [
        {"input_ids": [3 + i % 2, 5 + i % 9], "attention_mask": [1, 1], "labels": i % 2}
        for i in range(RECORDS)
    ]
    result = dpft.fit(
        bert(),
        rows,
        loss=Classification(),
        privacy=privacy(),
        adapter=lora(),
        optim=dataclasses.replace(EMA, head_learning_rate_factor=3.0),
        options=FitOptions(step=StepSettings(randomness=PinnedRandomness(3))),
        out=tmp_path / "run",
    )
    assert result.adapter_dir is not None
    stored = load_file(result.adapter_dir / "adapter_model.safetensors")
    trained = {n: p.detach() for n, p in result.model.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():
        short = name.replace(".modules_to_save.default", "").replace(".default", "")
        assert torch.equal(stored[short], parameter), name


def test_averaging_does_not_change_epsilon() -> None:
    averaged = fitted(EMA, SECRET)
    last = fitted(dataclasses.replace(EMA, averaging=Averaging.NONE), SECRET)
    assert averaged.epsilon == last.epsilon < math.inf
    assert averaged.certificate.runs[0].mechanism == last.certificate.runs[0].mechanism


@pytest.mark.parametrize("name", list(OptimizerName))
def test_every_optimiser_trains_through_fit(name: OptimizerName) -> None:
    result = fitted(Optim(name=name, learning_rate=0.01))
    assert not torch.equal(flat(result.model), flat(linear()))
    assert torch.isfinite(flat(result.model)).all()
