"""A method looks at what it was registered to look at, or is refused."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.taskvectors import (
    DataAccess,
    MergeOptions,
    Private,
    Public,
    TaskVector,
    merge,
    merge_method,
)
from dpft.taskvectors.merging import merge_method_names, registry

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture
def pair(vector: Callable[..., TaskVector]) -> list[TaskVector]:
    """Return two FFA-LoRA."""
    return [vector("ffa_lora", seed) for seed in (3, 4)]


@pytest.fixture
def looking() -> Iterator[None]:
    """Register methods that look at data, for the time of a test."""
    names = ("looks",)

    def plain(vectors: Sequence[TaskVector], options: MergeOptions, data: Any) -> TaskVector:
        assert data.records
        return vectors[0] * options.scaling_coef

    merge_method(names[0], DataAccess.STATISTICS)(plain)
    yield
    for name in names:
        del registry._METHODS[name]


def test_all_built_in_methods_look_at_no_data() -> None:
    names = ["dare", "denoised", "linear", "noise_weighted", "svd_aligned", "ties"]
    assert merge_method_names() == names
    assert {registry.find(name).data_access for name in names} == {DataAccess.NONE}


@pytest.mark.parametrize("method", ["linear", "ties", "dare", "svd_aligned", "noise_weighted"])
def test_methods_without_data_keep_the_union_of_runs(method: str, pair: list[TaskVector]) -> None:
    options = MergeOptions(weights=(1.0, -0.3), scaling_coef=0.5)
    assert merge(pair, method, options).certificate == (pair[0] + pair[1]).certificate


def test_linear_is_the_symbolic_sum(pair: list[TaskVector]) -> None:
    a, b = pair
    assert merge(pair, options=MergeOptions(weights=(1.0, -0.3))) == a - 0.3 * b
    assert merge([a, b, a], options=MergeOptions(weights=(1, 1, -1))) == b
    halved = merge(pair, options=MergeOptions(weights=(1, 3), normalize=True, scaling_coef=2))
    assert halved == 0.5 * a + 1.5 * b


def test_raw_data_is_refused(pair: list[TaskVector], looking: None) -> None:
    records: Any = [{"text": "a"}]
    with pytest.raises(TypeError, match=r"Public\(\.\.\.\) or Private"):
        merge(pair, "looks", data=records)


def test_data_must_be_declared_and_only_where_it_is_looked_at(
    pair: list[TaskVector], looking: None
) -> None:
    with pytest.raises(ConfigurationError, match="data"):
        merge(pair, "looks")
    with pytest.raises(ConfigurationError, match="data"):
        merge(pair, "linear", data=Public([1]))


def test_public_data_costs_nothing(pair: list[TaskVector], looking: None) -> None:
    assert merge(pair, "looks", data=Public([1])) == pair[0]


def test_a_method_without_private_form_is_refused(pair: list[TaskVector], looking: None) -> None:
    with pytest.raises(BrokenGuaranteeError, match="private form"):
        merge(pair, "looks", data=Private([1], 0.5, "letters"))


def test_a_budget_must_be_positive() -> None:
    for epsilon in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigurationError, match="epsilon"):
            Private([1], epsilon, "letters")
    with pytest.raises(ConfigurationError, match="delta"):
        Private([1], 0.5, "letters", delta=1.0)


def test_nothing_is_not_merged(pair: list[TaskVector]) -> None:
    for vectors in ([], [pair[0], pair[0] - pair[0]]):
        with pytest.raises(ConfigurationError, match="empty"):
            merge(vectors)


def test_an_unknown_method_is_refused_with_the_nearest(pair: list[TaskVector]) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean ties"):
        merge(pair, "tie")


def test_a_name_is_registered_once() -> None:
    merge_method_names()
    with pytest.raises(ConfigurationError, match="new"):
        merge_method("ties", DataAccess.NONE)(lambda *given: given[0][0])


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, math.nan])
def test_a_density_that_keeps_nothing_is_refused(density: float) -> None:
    with pytest.raises(ConfigurationError, match="density"):
        MergeOptions(density=density)


@pytest.mark.parametrize("weights", [(1.0, -1.0), (-1.0,), (0.2, -0.5)])
def test_normalising_by_what_is_not_positive_is_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="normalize"):
        MergeOptions(weights=weights, normalize=True)


def test_there_is_one_weight_for_each_vector(pair: list[TaskVector]) -> None:
    with pytest.raises(ConfigurationError, match="weights"):
        merge(pair, options=MergeOptions(weights=(1.0,)))


def test_normalising_is_off_by_default() -> None:
    assert MergeOptions().normalize is False
