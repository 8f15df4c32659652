"""a - a is nothing, -(-a) is a, 1.0 a is a, merge([a]) is a: for every kind and variant."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from dpft.errors import ConfigurationError
from dpft.taskvectors import MergeOptions, Reading, TaskVector, merge

# transformers 5.23 renamed an attribute that peft 0.21.2 still asks for.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
VARIANTS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "lora": ("lora", "bert", {}),
    "rslora": ("lora", "bert", {"use_rslora": True, "r": 4}),
    "dora": ("lora", "bert", {"use_dora": True}),
    "lora_bias": ("lora", "bert", {"lora_bias": True, "lora_alpha": 12}),
    "patterns": ("lora", "bert", {"rank_pattern": {"query": 3}, "alpha_pattern": {"value": 5}}),
    "embedding": ("lora", "bert", {"target_modules": ["query", "word_embeddings"]}),
    "conv1d": ("lora", "gpt2", {}),
    "ffa_lora": ("ffa_lora", "bert", {}),
    "bitfit": ("bitfit", "bert", {}),
    "lora and all biases": ("lora", "bert", {"bias": "all"}),
    "ia3": ("ia3", "gpt2", {}),
    "bottleneck": ("bottleneck", "bert", {"reduction_factor": 4}),
    "bottleneck with a norm": ("bottleneck", "bert", {"reduction_factor": 4, "ln_before": True}),
    "compacter": ("compacter", "gpt2", {"reduction_factor": 4}),
    "prompt": ("prompt", "bert", {"num_virtual_tokens": 4}),
    "prefix": ("prefix", "bert", {"num_virtual_tokens": 4}),
}
ROUNDING = 1e-6  # relative, in single precision
EXACT = 1e-10  # in double precision
_Made = tuple[TaskVector, Any, str]


@pytest.fixture(params=VARIANTS)
def made(
    request: pytest.FixtureRequest,
    adapted: Callable[..., Any],
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
) -> _Made:
    """Return a vector, the model that it came from, and its architecture."""
    kind, architecture, options = VARIANTS[request.param]
    model = adapted(kind, 3, architecture, **options)
    moves_the_base = kind == "bitfit" or "bias" in options
    reading = Reading(base=tiny(architecture)) if moves_the_base else Reading()
    vector = TaskVector.from_peft(model, certificate=certificate("a run"), options=reading)
    return vector, model, architecture


def test_identities_hold_symbolically_and_in_the_certificate(made: _Made) -> None:
    vector, _, _ = made
    assert (vector - vector).is_empty
    assert (vector - vector).certificate is None
    assert (vector - vector).runs == ()
    negated = -vector
    for same in (-negated, 1.0 * vector, 2 * vector - vector, merge([vector])):
        assert same == vector
        assert same.certificate == vector.certificate
        assert all(
            torch.equal(tensor, vector.delta.parts[place].tensors()[name])
            for place, part in same.delta.parts.items()
            for name, tensor in part.tensors().items()
        )


def test_a_vector_is_its_adapter_at_the_output_in_memory_and_from_disk(
    made: _Made,
    tiny: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
    tmp_path: Path,
) -> None:
    vector, model, architecture = made
    expected = outputs(model)
    folder = tmp_path / "saved"
    vector.save(folder)
    again = TaskVector.load(folder, options=Reading(base=tiny(architecture)))
    plain = PeftModel.from_pretrained(tiny(architecture), str(folder)).eval()
    results = {
        "to_peft": vector.to_peft(tiny(architecture)),
        "apply_to": vector.apply_to(tiny(architecture)),
        "plain peft": plain,
        "load": again.to_peft(tiny(architecture)),
    }
    for way, result in results.items():
        error = float((outputs(result) - expected).norm() / expected.norm())
        assert error < ROUNDING, way
    assert again.certificate == vector.certificate


@pytest.mark.parametrize("method", ["ties", "dare", "svd_aligned", "noise_weighted"])
@pytest.mark.parametrize("variant", ["lora", "ffa_lora", "ia3", "dora"])
def test_merging_one_vector_by_default_is_that_vector(
    method: str,
    variant: str,
    adapted: Callable[..., Any],
    tiny: Callable[..., Any],
    certificate: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    kind, architecture, options = VARIANTS[variant]
    model, base = adapted(kind, 3, architecture, **options).double(), tiny(architecture).double()
    vector = TaskVector.from_peft(model, certificate=certificate("a run"))
    same, opposite = (
        merge([vector], method, MergeOptions(weights=(weight,))) for weight in (1.0, -1.0)
    )
    expected, negated = outputs(model), outputs((-vector).apply_to(base))
    assert float((outputs(same.apply_to(base)) - expected).abs().max()) < EXACT
    assert float((outputs(opposite.apply_to(base)) - negated).abs().max()) < EXACT
    assert same.certificate == opposite.certificate == vector.certificate


def test_negation_of_unrecorded_starts_and_of_norms_is_refused(vector: Callable[..., Any]) -> None:
    for kind, options in (
        ("prompt", {"num_virtual_tokens": 4}),
        ("bottleneck", {"reduction_factor": 4, "ln_before": True}),
    ):
        negated = -vector(kind, 3, **options)
        with pytest.raises(ConfigurationError, match=r"start|ln_before"):
            [negated.delta.parts[place] for place in negated.delta.parts]
