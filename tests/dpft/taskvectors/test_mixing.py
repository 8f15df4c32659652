"""Mixtures of prompts and prefixes, and products of (IA)³."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpft.errors import ConfigurationError
from dpft.taskvectors import Reading, TaskVector, mixture

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture
def prefixes(vector: Callable[..., TaskVector]) -> list[TaskVector]:
    """Return two prefixes without heads."""
    return [
        vector("prefix", seed, num_virtual_tokens=4, dtype=torch.float64).without_heads()
        for seed in (3, 4)
    ]


def test_prefixes_mix_in_any_order(
    prefixes: list[TaskVector], tiny: Callable[..., Any], outputs: Callable[..., torch.Tensor]
) -> None:
    one = outputs(mixture(prefixes).to_peft(tiny().double()))
    other = outputs(mixture(prefixes[::-1]).to_peft(tiny().double()))
    alone = outputs(prefixes[0].to_peft(tiny().double()))
    assert float((one - other).abs().max()) < 1e-12
    assert float((one - alone).abs().max()) > 1e-3


def test_a_mixture_keeps_the_runs_of_all(prefixes: list[TaskVector]) -> None:
    assert [run.run_id for run in mixture(prefixes).runs] == ["run prefix 3", "run prefix 4"]
    with pytest.raises(ConfigurationError, match="start"):
        (prefixes[0] + prefixes[1]).delta.parts["prompt_embeddings"]


def test_a_mixture_has_no_weights_and_no_negation(
    prefixes: list[TaskVector], vector: Callable[..., TaskVector]
) -> None:
    headed = vector("prefix", 5, num_virtual_tokens=4)
    lora = [vector("lora", seed).without_heads() for seed in (3, 4)]
    for refused in ([prefixes[0], -prefixes[1]], [prefixes[0]], [prefixes[0], headed], lora):
        with pytest.raises(ConfigurationError, match="mixture"):
            mixture(refused)


def test_prompts_of_other_starts_are_refused(
    adapted: Callable[..., Any],
    start: Callable[..., dict[str, torch.Tensor]],
    certificate: Callable[..., Any],
) -> None:
    rows = start("prompt", num_virtual_tokens=4)["prompt_embeddings"]
    a, b = (
        TaskVector.from_peft(
            adapted("prompt", seed, num_virtual_tokens=4),
            certificate=certificate(f"run {seed}"),
            options=Reading(start={"prompt_embeddings": rows + 0.001 * seed}),
        ).without_heads()
        for seed in (3, 4)
    )
    with pytest.raises(ConfigurationError, match="start"):
        (a + b).delta.parts["prompt_embeddings"]


def test_a_product_is_one_adapter_after_another(
    adapted: Callable[..., Any],
    vector: Callable[..., TaskVector],
    tiny: Callable[..., Any],
    outputs: Callable[..., torch.Tensor],
) -> None:
    a, b = (vector("ia3", seed, architecture="gpt2") for seed in (3, 4))
    product = a.compose(b)
    model = adapted("ia3", 3, "gpt2")
    factors = {place: part.tensors()["value"] for place, part in b.delta.parts.items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ia3_l" in name:
                place = name.replace("base_model.model.", "").replace(".default", "")
                parameter.mul_(factors[place])
    made = outputs(product.to_peft(tiny("gpt2")))
    assert float((made - outputs(model)).abs().max()) < 1e-6
    assert [run.run_id for run in product.runs] == ["run ia3 3", "run ia3 4"]
    added = outputs((a + b).to_peft(tiny("gpt2")))
    assert float((made - added).abs().max()) > 1e-4


def test_an_inverse_undoes_a_factor(vector: Callable[..., TaskVector]) -> None:
    a, b = (vector("ia3", seed, architecture="gpt2") for seed in (3, 4))
    undone = a.compose(b).compose(b, power=-1)
    for place, part in undone.delta.parts.items():
        expected = a.delta.parts[place].tensors()["value"]
        assert torch.allclose(part.tensors()["value"], expected, atol=1e-6)


def test_factors_that_are_not_positive_have_no_product(vector: Callable[..., TaskVector]) -> None:
    a, b = (vector("ia3", seed, architecture="gpt2") for seed in (3, 4))
    with pytest.raises(ConfigurationError, match="inverse"):
        a.compose(20 * b)


def test_other_kinds_have_no_product(vector: Callable[..., TaskVector]) -> None:
    with pytest.raises(ConfigurationError, match="product"):
        vector("lora", 3).compose(vector("lora", 4))
