"""What each method does to tensors, against the rule in plain words."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpft.errors import ConfigurationError
from dpft.taskvectors import MergeOptions, TaskVector, merge
from dpft.taskvectors.merging.dare import dropped
from dpft.taskvectors.merging.denoising import shrunk
from dpft.taskvectors.merging.ties import elected_sum, trimmed

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def left(vector: TaskVector) -> torch.Tensor:
    part: Any = next(p for place, p in sorted(vector.delta.parts.items()) if "query" in place)
    return part.left.double()


@pytest.fixture
def pair(vector: Callable[..., TaskVector]) -> list[TaskVector]:
    """Return two FFA-LoRA."""
    return [vector("ffa_lora", seed) for seed in (3, 4)]


def test_ties_keeps_large_entries_that_agree(pair: list[TaskVector]) -> None:
    made = left(merge(pair, "ties", MergeOptions(weights=(1.0, -0.5), density=0.5)))
    one, other = (left(vector) for vector in pair)
    kept = []
    for weight, tensor in ((1.0, one), (-0.5, other)):
        edge = tensor.abs().flatten().sort().values[tensor.numel() // 2]
        kept.append(weight * torch.where(tensor.abs() >= edge, tensor, 0.0))
    expected = torch.zeros_like(one)
    for index in itertools.product(*map(range, one.shape)):
        values = [float(tensor[index]) for tensor in kept]
        sign = math.copysign(1, sum(values)) if sum(values) else 0
        expected[index] = sum(v for v in values if v and math.copysign(1, v) == sign)
    assert torch.allclose(made, expected, atol=1e-6)
    assert not torch.allclose(made, sum(kept), atol=1e-3)


def test_trimming_keeps_at_least_one_entry_and_bears_none() -> None:
    assert trimmed(torch.tensor([1.0, -3.0, 2.0]), 0.01).tolist() == [0.0, -3.0, 0.0]
    assert trimmed(torch.empty(0), 0.5).shape == (0,)
    assert elected_sum([torch.tensor([1.0]), torch.tensor([-1.0])]).tolist() == [0.0]


def test_dare_drops_by_its_public_seed_and_keeps_the_mean(pair: list[TaskVector]) -> None:
    options = MergeOptions(density=0.25, seed=1)
    first, again = (left(merge(pair, "dare", options)) for _ in range(2))
    other = left(merge(pair, "dare", MergeOptions(density=0.25, seed=2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    ones = dropped(torch.ones(20_000, dtype=torch.float64), 0.25, "a seed")
    assert set(ones.unique().tolist()) == {0.0, 4.0}
    assert float(ones.mean()) == pytest.approx(1, abs=0.05)  # 4 standard errors are 0.049


def test_svd_aligned_without_trimming_or_conflict_is_the_sum(pair: list[TaskVector]) -> None:
    alone = merge([pair[0]], "svd_aligned", MergeOptions(scaling_coef=-0.5))
    assert torch.allclose(left(alone), -0.5 * left(pair[0]), atol=1e-6)
    made = left(merge(pair, "svd_aligned", MergeOptions(density=0.5)))
    one, other = (left(vector) for vector in pair)
    basis, values, right = torch.linalg.svd(torch.cat([one, other], 1), full_matrices=False)
    inside = (values[:, None] * right).split(one.shape[1], 1)
    expected = basis @ elected_sum([trimmed(each, 0.5) for each in inside])
    assert torch.allclose(made, expected, atol=1e-5)
    assert not torch.allclose(made, one + other, atol=1e-2)


def test_noisier_vectors_count_less(pair: list[TaskVector]) -> None:
    a, b = pair
    made = merge(pair, "noise_weighted", MergeOptions(noise_std=(1.0, 2.0)))
    weights = {term.leaf.id: float(term.coefficient) for term in made.terms}
    assert weights[a.leaves[0].id] == pytest.approx(1.6)
    assert weights[b.leaves[0].id] == pytest.approx(0.4)
    assert merge(pair, "noise_weighted") == a + b  # equal mechanisms, equal weights


def test_noise_levels_follow_from_the_mechanisms(
    adapted: Callable[..., Any], certificate: Callable[..., Any]
) -> None:
    a, b = (
        TaskVector.from_peft(
            adapted("ffa_lora", seed), certificate=certificate(f"run {seed}", clip_norm=clip)
        )
        for seed, clip in ((3, 1.0), (4, 3.0))
    )
    made = merge([a, b], "noise_weighted")
    weights = {term.leaf.id: float(term.coefficient) for term in made.terms}
    assert weights[a.leaves[0].id] / weights[b.leaves[0].id] == pytest.approx(9)


def test_noise_that_is_not_known_is_not_guessed(pair: list[TaskVector]) -> None:
    with pytest.raises(ConfigurationError, match="noise_std"):
        merge([2 * pair[0], pair[1]], "noise_weighted")
    with pytest.raises(ConfigurationError, match="noise_std"):
        merge(pair, "denoised")
    for levels in ((1.0,), (0.0, 1.0)):
        with pytest.raises(ConfigurationError, match="noise_std"):
            merge(pair, "noise_weighted", MergeOptions(noise_std=levels))
    with pytest.raises(ConfigurationError, match="noise_std"):
        MergeOptions(noise_std=(-1.0,))


def test_denoising_without_noise_is_the_sum(pair: list[TaskVector]) -> None:
    made = merge(pair, "denoised", MergeOptions(noise_std=(0.0, 0.0)))
    assert torch.allclose(left(made), left(pair[0] + pair[1]), atol=1e-6)


def test_denoising_brings_a_matrix_nearer_to_what_lies_under_the_noise() -> None:
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    signal = draw @ torch.randn(2, 40, generator=generator, dtype=torch.float64)
    noise = torch.randn(60, 40, generator=generator, dtype=torch.float64)
    made = shrunk(signal + noise, 1.0)
    assert float((made - signal).norm()) < 0.5 * float(noise.norm())
    assert int(torch.linalg.matrix_rank(made)) == 2
    assert float(shrunk(noise, 1.0).norm()) < 0.2 * float(noise.norm())
    assert float(shrunk(noise[0], 1.0).norm()) < 0.7 * float(noise[0].norm())
    below_all_noise = 0.01 * torch.eye(60, 40, dtype=torch.float64)
    assert float(shrunk(below_all_noise, 1.0).norm()) == 0.0


def test_the_noise_in_a_product_of_two_trained_factors_is_refused(
    vector: Callable[..., TaskVector],
) -> None:
    pair = [vector("lora", seed) for seed in (3, 4)]
    with pytest.raises(ConfigurationError, match="second factor"):
        merge(pair, "denoised", MergeOptions(noise_std=(0.1, 0.1)))


@pytest.mark.parametrize("method", ["ties", "dare", "svd_aligned"])
def test_entries_of_networks_are_not_merged_one_by_one(
    method: str, vector: Callable[..., TaskVector]
) -> None:
    pair = [vector("bottleneck", seed, reduction_factor=4) for seed in (3, 4)]
    with pytest.raises(ConfigurationError, match="networks"):
        merge(pair, method)


def test_lora_of_two_trained_factors_are_merged_by_their_matrices(
    vector: Callable[..., TaskVector],
) -> None:
    a, b = (vector("lora", seed) for seed in (3, 4))
    made = merge([a, b], "dare")
    place = "bert.encoder.layer.0.attention.self.query.weight"
    got: Any = made.delta.parts[place]
    expected: Any = (a + b).delta.parts[place]
    assert torch.allclose(got.dense(), expected.dense(), atol=1e-6)
