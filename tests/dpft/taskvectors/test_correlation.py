"""Noise that two runs share is found in their deltas, and refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpft.errors import BrokenGuaranteeError
from dpft.taskvectors import Reading, TaskVector, Uncertified, merge, mixture
from dpft.taskvectors.correlation import MOST, cosine

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "ffa_lora": {},
    "ia3": {},
    "bottleneck": {"reduction_factor": 4},
}


@pytest.mark.parametrize("kind", KINDS)
def test_shared_noise_is_refused(
    kind: str, adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    one, other = adapted(kind, 3, **KINDS[kind]), adapted(kind, 3, **KINDS[kind])
    with torch.no_grad():  # another signal under the same noise
        for name, parameter in other.named_parameters():
            if parameter.requires_grad and "original_module" not in name:
                parameter.add_(0.03)
    a, b = (
        TaskVector.from_peft(model, certificate=certificate(name)).without_heads()
        for name, model in (("one", one), ("other", other))
    )
    for refused in (lambda: a + b, lambda: a - b, lambda: merge([a, b])):
        with pytest.raises(BrokenGuaranteeError, match="noise"):
            refused()


@pytest.mark.parametrize("kind", KINDS)
def test_independent_runs_are_far_below_the_bound(
    kind: str, vector: Callable[..., TaskVector]
) -> None:
    a, b = (vector(kind, seed, **KINDS[kind]) for seed in (3, 4))
    assert abs(cosine(a.delta, b.delta)) < MOST / 2
    assert not (a - b).is_empty


def test_a_copy_with_another_sign_or_another_basis_is_found(
    vector: Callable[..., TaskVector],
) -> None:
    a = vector("lora", 3).without_heads()
    squeezed = a.compress(rank=8).vector
    assert cosine(a.delta, (-a).delta) == pytest.approx(-1)
    assert cosine(a.delta, squeezed.delta) == pytest.approx(1)


def test_iterates_of_one_run_may_share_their_noise(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    models = [adapted("ffa_lora", 3), adapted("ffa_lora", 3)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1.0 if not parameter.requires_grad else 1.1)
    a, b = (TaskVector.from_peft(m, certificate=certificate("one run")) for m in models)
    assert not (a - b).is_empty


def test_without_privacy_there_is_no_noise_to_share(adapted: Callable[..., Any]) -> None:
    marked = Reading(on_uncertified=Uncertified.MARK)
    models = [adapted("ffa_lora", 3), adapted("ffa_lora", 3)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1.0 if not parameter.requires_grad else 1.1)
    a, b = (TaskVector.from_peft(model, options=marked) for model in models)
    assert not (a - b).is_empty


def test_mixtures_are_compared_as_well(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    start = {"prompt_embeddings": torch.zeros(4, 16)}
    vectors = [
        TaskVector.from_peft(
            adapted("prompt", 3, num_virtual_tokens=4),
            certificate=certificate(name),
            options=Reading(start=start),
        ).without_heads()
        for name in ("one", "other")
    ]
    with pytest.raises(BrokenGuaranteeError, match="noise"):
        mixture(vectors)
