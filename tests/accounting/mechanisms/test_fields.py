"""Every field of every mechanism is checked, and all wrong ones are named together."""

import math
from collections.abc import Callable

import pytest

from dpft.accounting import (
    Adjacency,
    Composed,
    ConfigurationError,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    Selection,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
)

BAD_NUMBERS = [0.0, -1.0, math.nan, math.inf, True, "1", None]
BAD_COUNTS = [0, -1, 1.5, True, "1", None]
NUMBERS: list[tuple[str, Callable[..., Mechanism]]] = [
    ("noise_multiplier", lambda bad: TruncatedPoissonGaussian(bad, 0.1, 3, 100, 20)),
    ("sample_rate", lambda bad: TruncatedPoissonGaussian(1.0, bad, 3, 100, 20)),
    ("noise_multiplier", lambda bad: UserPoissonGaussian(bad, 0.1, 3, 2)),
    ("sample_rate", lambda bad: UserPoissonGaussian(1.0, bad, 3, 2)),
    ("noise_multiplier", lambda bad: FixedBatchGaussian(bad, 3, 2)),
    ("noise_multiplier", Gaussian),
    ("scale", Laplace),
    ("decay", DiscreteLaplace),
    ("epsilon", Selection),
    ("epsilon", lambda bad: Opaque(bad, 1e-6)),
    ("mean", lambda bad: RepeatAndSelect(Gaussian(1.0), bad, 1.0)),
]
COUNTS: list[tuple[str, Callable[..., Mechanism]]] = [
    ("steps", lambda bad: TruncatedPoissonGaussian(1.0, 0.1, bad, 100, 20)),
    ("num_records", lambda bad: TruncatedPoissonGaussian(1.0, 0.1, 3, bad, 20)),
    ("largest_batch", lambda bad: TruncatedPoissonGaussian(1.0, 0.1, 3, 100, bad)),
    ("steps", lambda bad: UserPoissonGaussian(1.0, 0.1, bad, 2)),
    ("records_per_user", lambda bad: UserPoissonGaussian(1.0, 0.1, 3, bad)),
    ("steps", lambda bad: FixedBatchGaussian(1.0, bad, 1)),
    ("participations", lambda bad: FixedBatchGaussian(1.0, 3, bad)),
    ("steps", lambda bad: Gaussian(1.0, bad)),
    ("steps", lambda bad: Laplace(1.0, bad)),
    ("steps", lambda bad: DiscreteLaplace(1.0, 1, bad)),
    ("sensitivity", lambda bad: DiscreteLaplace(1.0, bad)),
]


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize(("field", "build"), NUMBERS)
def test_what_is_no_positive_number_is_refused(
    field: str, build: Callable[..., Mechanism], bad: object
) -> None:
    with pytest.raises(ConfigurationError, match=f"{field}="):
        build(bad)


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize(("field", "build"), COUNTS)
def test_what_is_no_count_is_refused(
    field: str, build: Callable[..., Mechanism], bad: object
) -> None:
    with pytest.raises(ConfigurationError, match=f"{field}="):
        build(bad)


def test_a_sample_rate_above_one_is_refused() -> None:
    for build in (
        lambda: PoissonGaussian(1.0, 1.1, 3),
        lambda: TruncatedPoissonGaussian(1.0, 1.1, 3, 100, 20),
        lambda: UserPoissonGaussian(1.0, 1.1, 3, 2),
    ):
        with pytest.raises(ConfigurationError, match=r"sample_rate=1\.1 in \(0, 1\]"):
            build()


@pytest.mark.parametrize("delta", [-1e-9, 1.0, 2.0, math.nan, True, False, "0", None])
def test_an_opaque_delta_outside_zero_to_one_is_refused(delta: object) -> None:
    with pytest.raises(ConfigurationError, match="delta="):
        Opaque(1.0, delta)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [-0.5, math.nan, math.inf, True, False, "geometric", None])
def test_a_shape_without_a_theorem_is_refused(shape: object) -> None:
    with pytest.raises(ConfigurationError, match="shape="):
        RepeatAndSelect(Gaussian(1.0), 10.0, shape)  # type: ignore[arg-type]


def test_fewer_than_one_repetition_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"mean=0\.5 >= 1"):
        RepeatAndSelect(Gaussian(1.0), 0.5, 1.0)


def test_truncated_batches_are_refused_where_the_number_of_records_is_private() -> None:
    with pytest.raises(ConfigurationError, match="adjacency=add_or_remove to be zero_out"):
        TruncatedPoissonGaussian(1.0, 0.1, 3, 100, 20, Adjacency.ADD_OR_REMOVE)


def test_fixed_batches_are_refused_where_records_come_and_go() -> None:
    with pytest.raises(ConfigurationError, match="adjacency=add_or_remove to be zero_out"):
        FixedBatchGaussian(1.0, 3, 1, Adjacency.ADD_OR_REMOVE)


def test_exchanging_a_user_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="adjacency=replace_one"):
        UserPoissonGaussian(1.0, 0.1, 3, 2, Adjacency.REPLACE_ONE)


def test_more_participations_than_steps_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="participations=4 <= steps=3"):
        FixedBatchGaussian(1.0, 3, 4)


def test_an_unknown_adjacency_is_refused_by_all() -> None:
    for build in (
        lambda: Gaussian(1.0, 1, "none"),  # type: ignore[arg-type]
        lambda: TruncatedPoissonGaussian(1.0, 0.1, 3, 100, 20, "none"),  # type: ignore[arg-type]
        lambda: Opaque(1.0, 0.0, "none"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError, match="adjacency=none to be one of"):
            build()


def test_all_wrong_fields_are_named_together() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        TruncatedPoissonGaussian(-1.0, 2.0, 0, 0, 0, "both")  # type: ignore[arg-type]
    assert len(refusal.value.messages) == 6


@pytest.mark.parametrize("parts", [(), [], None, "gaussian", (object(),), (Gaussian,)])
def test_parts_that_are_no_mechanisms_are_refused(parts: object) -> None:
    with pytest.raises(ConfigurationError):
        Composed(parts)  # type: ignore[arg-type]


def test_parts_of_another_adjacency_are_refused() -> None:
    part = Gaussian(1.0, 1, Adjacency.ZERO_OUT)
    for build in (
        lambda: Composed((part,)),
        lambda: RepeatAndSelect(part, 10, 1.0),
    ):
        with pytest.raises(ConfigurationError, match="to be that of its parts, zero_out"):
            build()


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("records_per_user", lambda: UserPoissonGaussian(1.0, 0.1, 3, 2**31)),
        ("sensitivity", lambda: DiscreteLaplace(1.0, 2**40)),
        ("scale", lambda: Laplace(1e-6)),
    ],
)
def test_what_would_be_computed_for_hours_is_refused(
    field: str, make: Callable[[], Mechanism]
) -> None:
    with pytest.raises(ConfigurationError, match=f"{field}=.*hours"):
        make()
