"""Sums of every kind do at the output what peft's own merged weights, added up, would do."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from peft import LNTuningConfig, get_peft_model
from torch import nn

from dpft.taskvectors import Reading, TaskVector

# transformers 5.23 renamed an attribute that peft 0.21.2 still asks for.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
EXACT = 1e-10  # relative, in double precision
VARIANTS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "lora": ("lora", "bert", {}),
    "rslora": ("lora", "bert", {"use_rslora": True, "r": 4}),
    "dora": ("lora", "bert", {"use_dora": True}),
    "lora_bias": ("lora", "bert", {"lora_bias": True, "lora_alpha": 12}),
    "patterns": ("lora", "bert", {"rank_pattern": {"query": 3}, "alpha_pattern": {"value": 5}}),
    "embedding": ("lora", "bert", {"target_modules": ["query", "word_embeddings"]}),
    "conv1d": ("lora", "gpt2", {}),
    "conv1d dora": ("lora", "gpt2", {"use_dora": True}),
    "ffa_lora": ("ffa_lora", "bert", {}),
    "ia3": ("ia3", "bert", {}),
    "ia3 conv1d": ("ia3", "gpt2", {}),
}
COEFFICIENTS = (1.0, -0.5)


def merged_sum(base: nn.Module, adapted: list[Any], coefficients: tuple[float, ...]) -> nn.Module:
    """Add up what peft itself merges into the weights: independent of our algebra."""
    merged = [
        {name.replace(".modules_to_save.default", ""): weight for name, weight in named}
        for named in (model.merge_and_unload().named_parameters() for model in adapted)
    ]
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            start = parameter.clone()
            for coefficient, weights in zip(coefficients, merged, strict=True):
                parameter.add_(coefficient * (weights[name] - start))
    return base


def relative(got: torch.Tensor, expected: torch.Tensor, base: torch.Tensor) -> float:
    """Return the error relative to what the sum of adapters moves at all."""
    moved = float((expected - base).norm())
    assert moved > 1e-3 * float(base.norm()), "the reference does nothing"
    return float((got - expected).norm()) / moved


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_weighted_sum_is_exact_at_the_output(
    variant: str,
    adapted: Callable[..., Any],
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    kind, architecture, options = VARIANTS[variant]
    models = [adapted(kind, seed, architecture, **options).double() for seed in (3, 4)]
    vectors = [
        TaskVector.from_peft(model, certificate=certificate(f"run {number}"))
        for number, model in enumerate(models)
    ]
    base = tiny(architecture).double()
    alone = outputs(base)
    terms = [w * vector for w, vector in zip(COEFFICIENTS, vectors, strict=True)]
    made = outputs(sum(terms).to_peft(tiny(architecture).double()))  # type: ignore[union-attr, unused-ignore]
    applied = outputs(sum(terms).apply_to(base))  # type: ignore[union-attr, unused-ignore]
    expected = outputs(merged_sum(base, models, COEFFICIENTS))
    assert relative(made, expected, alone) < EXACT
    assert relative(applied, expected, alone) < EXACT


@pytest.mark.parametrize("kind", ["bottleneck", "compacter"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_networks_side_by_side_add_up_at_the_output(
    kind: str,
    architecture: str,
    adapted: Callable[..., Any],
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = [adapted(kind, seed, architecture, reduction_factor=4).double() for seed in (3, 4)]
    first, second = (
        TaskVector.from_peft(model, certificate=certificate(f"run {number}"))
        for number, model in enumerate(models)
    )
    total = (first - 0.5 * second).without_heads()
    base = tiny(architecture).double()
    made = outputs(total.to_peft(base))

    layers = [dict(model.get_base_model().named_modules()) for model in models]
    names = [name for name, layer in layers[0].items() if hasattr(layer, "placements")]
    originals = {name: (layers[0][name].delta, layers[1][name].delta) for name in names}
    for name in names:
        one, other = originals[name]
        added = lambda key, hidden, f=one, g=other: f(key, hidden) - 0.5 * g(key, hidden)  # noqa: E731
        monkeypatch.setattr(layers[0][name], "delta", added)
    reference = models[0]
    for module in reference.modules():  # the heads are left out of the sum
        if hasattr(module, "modules_to_save") and hasattr(module, "original_module"):
            module.modules_to_save["default"] = module.original_module
    expected = outputs(reference)
    alone = outputs(tiny(architecture).double())
    assert names
    assert relative(made, expected, alone) < EXACT


def test_bitfit_adds_up_at_the_output(
    adapted: Callable[..., Any],
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    models = [adapted("bitfit", seed).double() for seed in (3, 4)]
    base = tiny().double()
    vectors = [
        TaskVector.from_peft(
            model, certificate=certificate(f"run {number}"), options=Reading(base=base)
        )
        for number, model in enumerate(models)
    ]
    total = vectors[0] - 0.5 * vectors[1]
    alone = outputs(base)
    made, applied = outputs(total.to_peft(tiny().double())), outputs(total.apply_to(base))
    expected = outputs(merged_sum(base, models, COEFFICIENTS))
    assert relative(made, expected, alone) < EXACT
    assert relative(applied, expected, alone) < EXACT


@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
def test_layer_norms_add_up_at_the_output(
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    vectors, models = [], []
    for seed in (3, 4):
        config = LNTuningConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"])
        model = get_peft_model(tiny(), config).double().eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "ln_tuning_layers" in name:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.add_(0.1 * noise)
        vectors.append(TaskVector.from_peft(model, certificate=certificate(f"run {seed}")))
        models.append(model)
    total = vectors[0] - 0.5 * vectors[1]
    base = tiny().double()
    alone = outputs(base)
    made = outputs(total.to_peft(tiny().double()))
    expected = outputs(merged_sum(base, models, COEFFICIENTS))
    assert relative(made, expected, alone) < EXACT


def test_full_weights_add_up_at_the_output(
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    base, models, vectors = tiny().double(), [], []
    for seed in (3, 4):
        model = tiny().double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.02 * noise)
        models.append(model)
        vectors.append(TaskVector.from_models(base, model, certificate=certificate(f"run {seed}")))
    made = outputs((vectors[0] - 0.5 * vectors[1]).apply_to(base))
    expected = tiny().double()
    with torch.no_grad():
        for name, parameter in expected.named_parameters():
            one, other = (model.get_parameter(name) for model in models)
            parameter.add_((one - parameter) - 0.5 * (other - parameter.clone()))
    assert relative(made, outputs(expected), outputs(base)) < EXACT


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_prompts_of_one_start_add_up_row_by_row(
    kind: str,
    adapted: Callable[..., Any],
    start: Callable[..., dict[str, torch.Tensor]],
    certificate: Callable[..., Any],
) -> None:
    began = start(kind, num_virtual_tokens=4)["prompt_embeddings"].double()
    models = [adapted(kind, seed, num_virtual_tokens=4).double() for seed in (3, 4)]
    first, second = (
        TaskVector.from_peft(
            model,
            certificate=certificate(f"run {number}"),
            options=Reading(start={"prompt_embeddings": began}),
        ).without_heads()
        for number, model in enumerate(models)
    )
    rows = [
        vector.delta.parts["prompt_embeddings"].tensors()["value"] for vector in (first, second)
    ]
    made = (first - 0.5 * second).delta.parts["prompt_embeddings"].tensors()["value"]
    expected = began + (rows[0] - began) - 0.5 * (rows[1] - began)
    assert torch.allclose(made, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_prompts_in_double_precision_are_not_rounded_by_an_adapter(
    kind: str,
    adapted: Callable[..., Any],
    start: Callable[..., dict[str, torch.Tensor]],
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
) -> None:
    began = start(kind, num_virtual_tokens=4)["prompt_embeddings"].double()
    vector = TaskVector.from_peft(
        adapted(kind, 3, num_virtual_tokens=4).double(),
        certificate=certificate("a run"),
        options=Reading(start={"prompt_embeddings": began}),
    )
    scaled = 0.3 * vector.without_heads()
    held = scaled.to_peft(tiny().double()).get_prompt_embedding_to_save("default")
    wanted = scaled.delta.parts["prompt_embeddings"].tensors()["value"]
    assert held.dtype is torch.float64
    assert torch.equal(held, wanted)
