"""How long a mechanism runs, what its first steps are, and whose data it covers."""

import pytest

from dpft.accounting import (
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
    Unit,
    UserPoissonGaussian,
    epsilon,
    first_steps,
    steps_of,
    unit_of,
)
from dpft.accounting.mechanisms.portions import with_steps
from dpft.accounting.rdp import renyi_divergences

LONG: list[Mechanism] = [
    PoissonGaussian(1.0, 0.1, 30),
    TruncatedPoissonGaussian(1.0, 0.1, 30, 100, 20),
    UserPoissonGaussian(1.0, 0.1, 30, 2),
    FixedBatchGaussian(1.0, 30, 3),
    Gaussian(1.0, 30),
    Laplace(1.0, 30),
    DiscreteLaplace(1.0, 1, 30),
]
ONCE: list[Mechanism] = [
    Selection(1.0),
    Opaque(1.0, 1e-6),
    RepeatAndSelect(PoissonGaussian(1.0, 0.1, 30), 10, 1.0),
    Composed((PoissonGaussian(1.0, 0.1, 30), Laplace(2.0))),
]


@pytest.mark.parametrize("mechanism", LONG)
def test_the_first_steps_are_the_same_mechanism_but_shorter(mechanism: Mechanism) -> None:
    first = first_steps(mechanism, 7)
    assert first is not None
    assert type(first) is type(mechanism)
    assert (steps_of(mechanism), steps_of(first)) == (30, 7)
    assert first_steps(mechanism, 30) == mechanism
    assert first_steps(mechanism, 0) is None


@pytest.mark.parametrize("mechanism", LONG)
def test_another_number_of_steps_leaves_all_else_as_it_was(mechanism: Mechanism) -> None:
    longer = with_steps(mechanism, 90)
    assert steps_of(longer) == 90
    assert with_steps(longer, 30) == mechanism
    assert getattr(with_steps(mechanism, 1), "participations", 1) == 1


@pytest.mark.parametrize("mechanism", [PoissonGaussian(1.0, 0.1, 30), Gaussian(1.0, 30)])
def test_the_first_steps_and_the_rest_make_the_whole(mechanism: Mechanism) -> None:
    first, rest = first_steps(mechanism, 7), first_steps(mechanism, 23)
    assert first is not None
    assert rest is not None
    whole = renyi_divergences([mechanism], [2.0, 8.0])
    assert renyi_divergences([first, rest], [2.0, 8.0]) == pytest.approx(whole)


def test_a_record_takes_part_in_the_first_steps_as_often_as_it_can() -> None:
    """The first steps may hold every participation of a record: none of them is refunded."""
    mechanism = FixedBatchGaussian(1.0, 30, 3)
    assert first_steps(mechanism, 20) == FixedBatchGaussian(1.0, 20, 3)
    assert first_steps(mechanism, 2) == FixedBatchGaussian(1.0, 2, 2)


@pytest.mark.parametrize("mechanism", ONCE)
def test_what_happens_once_is_charged_as_a_whole(mechanism: Mechanism) -> None:
    assert steps_of(mechanism) == 1
    assert first_steps(mechanism, 1) == mechanism
    with pytest.raises(ConfigurationError, match="charged as a whole"):
        first_steps(mechanism, 2)


@pytest.mark.parametrize("steps", [-1, 31, 1.0, True, None])
def test_steps_that_a_mechanism_does_not_have_are_refused(steps: object) -> None:
    with pytest.raises(ConfigurationError, match="steps="):
        first_steps(PoissonGaussian(1.0, 0.1, 30), steps)  # type: ignore[arg-type]


def test_mechanisms_of_users_cover_users() -> None:
    user = UserPoissonGaussian(1.0, 0.1, 30, 2)
    assert unit_of(user) is unit_of(RepeatAndSelect(user, 10, 1.0)) is Unit.USER
    assert unit_of(Composed((user,))) is Unit.USER
    assert {unit_of(each) for each in [*ONCE, LONG[0], LONG[3]]} == {Unit.RECORD}


def test_parts_of_different_units_are_refused() -> None:
    mixed = Composed((UserPoissonGaussian(1.0, 0.1, 30, 2), PoissonGaussian(1.0, 0.1, 30)))
    with pytest.raises(ConfigurationError, match="unit"):
        unit_of(mixed)


def test_a_sample_of_users_covers_users_at_the_cost_of_a_sample_of_records() -> None:
    users, records = (PoissonGaussian(1.0, 0.1, 30, unit=unit) for unit in (Unit.USER, Unit.RECORD))
    assert (unit_of(users), unit_of(records)) == (Unit.USER, Unit.RECORD)
    assert first_steps(users, 7) == PoissonGaussian(1.0, 0.1, 7, unit=Unit.USER)
    for accountant in ("pld", "rdp"):
        assert epsilon(users, 1e-5, accountant=accountant) == epsilon(
            records, 1e-5, accountant=accountant
        )
