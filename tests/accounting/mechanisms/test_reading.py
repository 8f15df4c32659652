"""Every mechanism survives JSON without loss, and nothing else is read."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Unit,
    UserPoissonGaussian,
    mechanism_from_json,
)
from dpft.accounting.mechanisms import KNOWN_MECHANISMS, POISSON

POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
RATE = st.floats(min_value=0, exclude_min=True, max_value=1)
COUNT = st.integers(1, 10**12)
FEW = st.integers(1, 10_000)  # what an accountant computes one by one
SCALE = st.floats(min_value=0.05, allow_infinity=False)


def simple(adjacency: Adjacency) -> st.SearchStrategy[Mechanism]:
    """Return mechanisms that can be stated for a relation and hold no other."""
    relation = st.just(adjacency)
    delta = st.one_of(st.just(0.0), st.floats(1e-12, 0.99))
    found: list[st.SearchStrategy[Mechanism]] = [
        st.builds(PoissonGaussian, POSITIVE, RATE, COUNT, relation, unit=st.sampled_from(Unit)),
        st.builds(Gaussian, POSITIVE, COUNT, relation),
        st.builds(Laplace, SCALE, COUNT, relation),
        st.builds(DiscreteLaplace, POSITIVE, FEW, COUNT, relation),
        st.builds(Selection, POSITIVE, relation),
        st.builds(Opaque, POSITIVE, delta, relation),
    ]
    if adjacency is not Adjacency.ADD_OR_REMOVE:
        truncated = (POSITIVE, RATE, COUNT, COUNT, COUNT, relation)
        found.append(st.builds(TruncatedPoissonGaussian, *truncated))
        found.append(st.builds(FixedBatchGaussian, POSITIVE, COUNT, st.just(1), relation))
    if adjacency is not Adjacency.REPLACE_ONE:
        found.append(st.builds(UserPoissonGaussian, POSITIVE, RATE, COUNT, FEW, relation))
    return st.one_of(found)


@st.composite
def mechanisms(draw: st.DrawFn) -> Mechanism:
    adjacency = draw(st.sampled_from(Adjacency))
    parts = draw(st.lists(simple(adjacency), min_size=1, max_size=3))
    base: Mechanism = Composed(tuple(parts), adjacency) if len(parts) > 1 else parts[0]
    if draw(st.booleans()):
        return base
    shape = draw(st.one_of(st.just(POISSON), st.floats(0, 10)))
    return RepeatAndSelect(base, draw(st.floats(1, 1e6)), shape, adjacency)


@settings(max_examples=50, deadline=None)
@given(mechanisms())
def test_json_and_back_is_the_same_mechanism(mechanism: Mechanism) -> None:
    again = mechanism_from_json(json.loads(json.dumps(mechanism.to_json(), allow_nan=False)))
    assert again == mechanism
    assert hash(again) == hash(mechanism)
    assert again.to_json() == mechanism.to_json()


def test_every_kind_has_a_name_of_its_own() -> None:
    kinds = [known.kind for known in KNOWN_MECHANISMS]
    assert len(set(kinds)) == len(kinds) == 12


@pytest.mark.parametrize("known", KNOWN_MECHANISMS)
def test_every_mechanism_is_frozen(known: type) -> None:
    assert vars(known)["__dataclass_params__"].frozen


@pytest.mark.parametrize(
    "change",
    [
        {"base": None},
        {"base": {"kind": "os.system"}},
        {"base": {**PoissonGaussian(1.0, 0.1, 3).to_json(), "clip": 1.0}},
        {"shape": "geometric"},
        {"mean": 0.5},
        {"adjacency": "zero_out"},
    ],
)
def test_a_mechanism_inside_another_is_checked_as_well(change: dict[str, object]) -> None:
    whole = RepeatAndSelect(PoissonGaussian(1.0, 0.1, 3), 10, 1.0)
    with pytest.raises(ConfigurationError):
        mechanism_from_json({**whole.to_json(), **change})


def test_parts_that_are_no_list_are_refused() -> None:
    fields = Composed((Gaussian(1.0),)).to_json()
    with pytest.raises(ConfigurationError, match="parts"):
        mechanism_from_json({**fields, "parts": "gaussian"})


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "selection", "opaque"])
def test_fields_of_one_kind_are_not_read_as_another(kind: str) -> None:
    with pytest.raises(ConfigurationError):
        mechanism_from_json({**PoissonGaussian(1.0, 0.1, 3).to_json(), "kind": kind})


def test_fields_are_named_as_in_the_class() -> None:
    for known in KNOWN_MECHANISMS:
        assert next(reversed(dataclasses.fields(known))).name == "adjacency"


def test_the_unit_of_a_sample_is_written_where_it_is_a_user_and_read_either_way() -> None:
    records, users = PoissonGaussian(1.0, 0.1, 3), PoissonGaussian(1.0, 0.1, 3, unit=Unit.USER)
    assert "unit" not in records.to_json()  # certificates written before keep their digests
    assert mechanism_from_json({**records.to_json(), "unit": "record"}) == records
    assert users.to_json()["unit"] == "user"
    assert mechanism_from_json(users.to_json()) == users != records
    with pytest.raises(ConfigurationError, match="unit"):
        mechanism_from_json({**records.to_json(), "unit": "household"})


def test_no_other_field_may_be_missing() -> None:
    fields = UserPoissonGaussian(1.0, 0.1, 3, 2).to_json()
    for name in fields.keys() - {"kind"}:
        with pytest.raises(ConfigurationError):
            mechanism_from_json({key: value for key, value in fields.items() if key != name})
