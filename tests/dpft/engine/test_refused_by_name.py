"""Models and module states that are refused by name, before any record is touched."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import accelerate  # type: ignore[import-untyped]  # ships no types
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import distributed, nn
from torch.ao.quantization import FakeQuantize
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_module
from torch.testing._internal.distributed.fake_pg import FakeStore

import dpft
from dpft.engine.attachment import Engine
from dpft.errors import BrokenGuaranteeError, UnsupportedError

Batch = Mapping[str, torch.Tensor]
WIDTH = 4


def mean(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch["x"]).flatten(1).mean(1)


def records() -> dict[str, torch.Tensor]:
    return {"x": torch.randn(3, 5, WIDTH)}


def named(name: str, parent: type[nn.Module] = nn.Module) -> nn.Module:
    """Return a module of a class of this name, for libraries that need more than a test has."""
    module = type(name, (parent,), {"__init__": nn.Module.__init__})()
    module.add_module("inner", nn.Linear(WIDTH, WIDTH))
    return module


def beside(module: nn.Module) -> nn.Module:
    """Return a model with a trainable layer and, in eval mode, this module."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), module).eval()


@pytest.mark.parametrize(
    "name",
    [
        "DataParallel",
        "DeepSpeedEngine",
        "DistributedDataParallel",
        "FullyShardedDataParallel",
        "AbstractGradSampleModule",
        "OptimizedModule",
        "ScriptModule",
    ],
)
def test_wrappers_are_refused_by_name_and_so_are_their_subclasses(name: str) -> None:
    for wrapper in (named(name), named("Mine", type(named(name)))):
        with pytest.raises(UnsupportedError, match="unwrapped"):
            Engine(beside(wrapper), mean)


@pytest.mark.parametrize(
    "parent", [nn.parallel.DistributedDataParallel, nn.DataParallel], ids=lambda kind: kind.__name__
)
def test_torch_wrappers_have_the_names_that_are_refused(parent: type[nn.Module]) -> None:
    with pytest.raises(UnsupportedError, match="unwrapped"):
        Engine(named("Mine", parent), mean)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own imports
def test_a_module_compiled_in_place_is_refused() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2))
    engine = Engine(model, mean)
    model[1].compile()
    with pytest.raises(UnsupportedError, match=r"module 1 .* compiled"):
        Engine(model, mean)
    with pytest.raises(UnsupportedError, match="compiled"):
        engine.raw_gradients(records())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit is on its way out
def test_a_traced_module_is_refused() -> None:
    traced = torch.jit.trace(nn.Linear(WIDTH, WIDTH), torch.randn(2, WIDTH))
    with pytest.raises(UnsupportedError, match="compiled"):
        Engine(beside(traced), mean)


@pytest.mark.parametrize("threshold", [6.0, None], ids=["llm_int8", "unknown"])
def test_int8_with_outliers_is_refused_in_any_mode(threshold: float | None) -> None:
    quantised = named("Linear8bitLt")
    quantised.state = SimpleNamespace(threshold=threshold)
    with pytest.raises(UnsupportedError, match="outlier"):
        Engine(beside(quantised), mean)


def test_int8_without_outliers_scales_each_row_alone_and_is_taken() -> None:
    quantised = named("Linear8bitLt")
    quantised.state = SimpleNamespace(threshold=0.0)
    Engine(beside(quantised), mean)


@pytest.mark.parametrize("name", ["Float8Linear", "FakeQuantizeBase", "ObserverBase"])
def test_modules_whose_scale_spans_records_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="records"):
        Engine(beside(named(name)), mean)


def test_fake_quantisation_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="one scale"):
        Engine(beside(FakeQuantize()), mean)


@pytest.mark.parametrize("folder", ["torch.ao.nn.quantized.dynamic.modules.linear"])
def test_dynamic_per_tensor_int8_is_refused(folder: str) -> None:
    dynamic = named("Linear")
    type(dynamic).__module__ = folder
    with pytest.raises(UnsupportedError, match="one scale"):
        Engine(beside(dynamic), mean)


def test_weights_that_quantise_activations_are_refused() -> None:
    class LinearActivationQuantizedTensor(nn.Parameter):
        pass

    layer = nn.Linear(WIDTH, WIDTH)
    layer.weight = LinearActivationQuantizedTensor(layer.weight.detach(), requires_grad=False)
    with pytest.raises(UnsupportedError, match="activations"):
        Engine(beside(layer), mean)


def test_batch_norm_is_taken_in_eval_mode_only() -> None:
    model = beside(nn.BatchNorm1d(5))
    assert dpft.per_record_gradients(model, mean, records()).keys() >= {"0.weight", "1.weight"}
    with pytest.raises(UnsupportedError, match="batch statistics"):
        Engine(model.train(), mean)


def test_a_trainable_parameter_on_the_meta_device_is_refused() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2, device="meta"))
    with pytest.raises(UnsupportedError, match=r"module 1 .* meta device"):
        Engine(model, mean)


def test_a_model_of_shapes_alone_meets_no_records() -> None:
    with torch.device("meta"):
        engine = Engine(nn.Linear(WIDTH, WIDTH), mean)
    with pytest.raises(UnsupportedError, match="weight on the meta device"):
        engine.gradients(records())
    shapes = {"x": torch.empty(3, 5, WIDTH, device="meta")}
    assert engine.raw_gradients(shapes)["weight"].shape == (3, WIDTH, WIDTH)


def test_offloaded_trainable_parameters_are_refused_and_frozen_ones_are_not() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2))
    accelerate.cpu_offload(model[0])
    with pytest.raises(UnsupportedError, match="offloaded"):
        Engine(model, mean)
    model[0].requires_grad_(requires_grad=False)
    assert set(Engine(model, mean).parameters) == {"1.weight", "1.bias"}


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of one process that needs no network."""
    distributed.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    yield
    distributed.destroy_process_group()


def test_a_trainable_dtensor_is_refused(process_group: None) -> None:
    model = distribute_module(nn.Linear(WIDTH, 2), init_device_mesh("cpu", (1,)))
    with pytest.raises(BrokenGuaranteeError, match="DTensor"):
        Engine(model, mean)


def test_adapters_merged_or_disabled_after_the_start_are_refused() -> None:
    model = get_peft_model(nn.Sequential(nn.Linear(WIDTH, WIDTH)), LoraConfig(target_modules=["0"]))
    engine = Engine(model, mean)
    model.merge_adapter()
    with pytest.raises(UnsupportedError, match="merged"):
        engine.raw_gradients(records())
    model.unmerge_adapter()
    with model.disable_adapter(), pytest.raises(BrokenGuaranteeError, match=r"trainable|isabled"):
        engine.raw_gradients(records())
    model.get_submodule("base_model.model.0")._disable_adapters = True
    with pytest.raises(UnsupportedError, match="isabled"):
        engine.raw_gradients(records())


def test_mixed_batch_adapter_names_are_refused() -> None:
    model = get_peft_model(nn.Sequential(nn.Linear(WIDTH, WIDTH)), LoraConfig(target_modules=["0"]))
    model.add_adapter("other", LoraConfig(target_modules=["0"]))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    model.eval()  # PEFT takes adapter_names in eval mode only

    def mixed(model: nn.Module, batch: Batch) -> torch.Tensor:
        names = [("default", "other")[index % 2] for index in range(len(batch["x"]))]
        layer = model.get_submodule("base_model.model.0")
        return layer(batch["x"], adapter_names=names).flatten(1).mean(1)

    with pytest.raises(UnsupportedError):
        Engine(model, mixed).raw_gradients(records())
