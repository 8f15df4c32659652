"""Runs add up where they overlap, under the coarsest relation that all of them can be read in."""

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.accounting import (
    Adjacency,
    Certificate,
    Composed,
    ConfigurationError,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    RunRecord,
    Selection,
    UserPoissonGaussian,
    epsilon,
)
from dpft.accounting.composition import adjacency_of, groups_of, under
from dpft.accounting.dataset_use import DatasetUse, Partition

ADD, ZERO, REPLACE = Adjacency.ADD_OR_REMOVE, Adjacency.ZERO_OUT, Adjacency.REPLACE_ONE
MECHANISM = PoissonGaussian(2.0, 0.1, 300)


def record(run_id: str = "one", **changes: Any) -> RunRecord:
    mechanism = changes.get("mechanism", MECHANISM)
    fields: dict[str, Any] = {
        "run_id": run_id,
        "dataset_id": "letters",
        "mechanism": mechanism,
        "adjacency": mechanism.adjacency,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "rdp",
    }
    return RunRecord(**{**fields, **changes})


def spent(*mechanisms: Mechanism) -> float:
    return epsilon(list(mechanisms), 1e-4, accountant="rdp")  # type: ignore[arg-type, unused-ignore]


def part(run_id: str, number: int, mechanism: Mechanism = MECHANISM) -> RunRecord:
    return record(run_id, mechanism=mechanism, partition=Partition("rule", str(number)))


PLACES = st.lists(
    st.tuples(st.sampled_from(["letters", "diaries"]), st.sampled_from([None, "0", "1", "2"])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(PLACES)
def test_groups_are_the_largest_sets_that_overlap_pairwise(
    places: list[tuple[str, str | None]],
) -> None:
    runs = [
        record(f"run {index}", dataset_id=name, partition=each and Partition("rule", each))
        for index, (name, each) in enumerate(places)
    ]

    def apart(a: RunRecord, b: RunRecord) -> bool:
        same = a.dataset_id == b.dataset_id
        return same and None not in (a.partition, b.partition) and a.partition != b.partition

    cliques = [
        {run.run_id for run in chosen}
        for count in range(1, len(runs) + 1)
        for chosen in itertools.combinations(runs, count)
        if not any(apart(a, b) for a, b in itertools.combinations(chosen, 2))
    ]
    largest = [each for each in cliques if not any(each < other for other in cliques)]
    found = [{run.run_id for run in group.runs} for group in groups_of(runs)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, largest))


def test_disjoint_parts_are_paid_for_together_under_replace_one() -> None:
    replaced = dataclasses.replace(MECHANISM, adjacency=REPLACE)
    both = Certificate((part("a", 0, replaced), part("b", 1, replaced)))
    assert both.epsilon(accountant="pld") == epsilon([replaced, replaced], 1e-4)
    assert both.epsilon(accountant="pld") > epsilon(replaced, 1e-4)


def test_one_run_under_replace_one_puts_all_of_them_there() -> None:
    replaced = dataclasses.replace(MECHANISM, adjacency=REPLACE)
    mixed = Certificate((part("a", 0), part("b", 1, replaced)))
    assert mixed.adjacency is REPLACE
    assert mixed.epsilon(accountant="pld") == epsilon([replaced, replaced], 1e-4)


def test_a_stated_number_of_records_is_read_as_a_public_one() -> None:
    zeroed = dataclasses.replace(MECHANISM, adjacency=ZERO)
    mixed = Certificate((record("a"), record("b", mechanism=zeroed)))
    assert mixed.adjacency is ZERO
    assert mixed.epsilon() == spent(zeroed, zeroed)


def test_a_counted_number_of_records_is_never_upgraded() -> None:
    zeroed = dataclasses.replace(MECHANISM, adjacency=ZERO)
    assert adjacency_of([record("a"), record("b", mechanism=zeroed)]) is ZERO
    for coarse, fine in ((ZERO, ADD), (REPLACE, ZERO), (REPLACE, ADD)):
        with pytest.raises(ConfigurationError, match=f"to be {fine.value}"):
            under(dataclasses.replace(MECHANISM, adjacency=coarse), fine)


def test_without_a_public_number_of_records_the_relation_stays() -> None:
    secret = record("a", num_records=None)
    zeroed = dataclasses.replace(MECHANISM, adjacency=ZERO)
    assert adjacency_of([secret]) is ADD
    with pytest.raises(ConfigurationError, match="num_records"):
        adjacency_of([secret, record("b", mechanism=zeroed)])
    with pytest.raises(ConfigurationError, match="num_records"):
        adjacency_of([secret], ZERO)


@pytest.mark.parametrize(
    "mechanism",
    [
        Gaussian(1.0, 3),
        FixedBatchGaussian(1.0, 30, 3),
        RepeatAndSelect(MECHANISM, 3.0, 1.0),
        Composed((MECHANISM, Gaussian(1.0))),
    ],
    ids=lambda mechanism: mechanism.kind,
)
def test_noise_in_units_of_the_clip_norm_is_read_under_a_coarser_relation(
    mechanism: Mechanism,
) -> None:
    moved = under(mechanism, REPLACE)
    assert moved.adjacency is REPLACE
    inner = [*getattr(moved, "parts", ()), getattr(moved, "base", moved)]
    assert all(each.adjacency is REPLACE for each in inner)


@pytest.mark.parametrize(
    "mechanism",
    [
        Laplace(3.0),
        Selection(0.5),
        Opaque(1.0, 1e-6),
        UserPoissonGaussian(2.0, 0.1, 30, 4),
        Composed((MECHANISM, Selection(0.5))),
    ],
    ids=lambda mechanism: mechanism.kind,
)
def test_what_states_no_noise_is_not_converted(mechanism: Mechanism) -> None:
    assert under(mechanism, ADD) == mechanism
    with pytest.raises(ConfigurationError, match="adjacency"):
        under(mechanism, REPLACE)


def test_records_and_users_are_not_mixed() -> None:
    users = record("a", unit="user", mechanism=UserPoissonGaussian(2.0, 0.1, 30, 4))
    with pytest.raises(ConfigurationError, match="unit"):
        Certificate((users, record("b"))).epsilon()


def test_a_run_on_several_data_sets_costs_each_by_its_own_rate() -> None:
    cut = [Partition("rule", str(number)) for number in range(2)]
    run = record(
        "several",
        partition=cut[0],
        uses=(DatasetUse("letters", 1000, 0.1, cut[0]), DatasetUse("letters", 50, 0.4, cut[1])),
    )
    rates = [
        mechanism.sample_rate
        for group in groups_of([run])
        for mechanism in group.mechanisms
        if isinstance(mechanism, PoissonGaussian)
    ]
    assert rates == [0.1, 0.4]
    assert Certificate((run,)).epsilon() == spent(PoissonGaussian(2.0, 0.4, 300))


def test_who_is_in_several_data_sets_of_one_run_is_in_one_sum_twice() -> None:
    run = record("several", uses=(DatasetUse("letters", 1000, 0.1), DatasetUse("diaries", 50, 0.4)))
    ((mechanism,),) = (group.mechanisms for group in groups_of([run]))
    assert isinstance(mechanism, PoissonGaussian)
    assert mechanism.noise_multiplier == 1.0
    assert mechanism.sample_rate == pytest.approx(1 - 0.9 * 0.6, rel=1e-12)
    assert mechanism.sample_rate >= 1 - 0.9 * 0.6
    apart = [PoissonGaussian(2.0, rate, 300) for rate in (0.1, 0.4)]
    assert Certificate((run,)).epsilon() > spent(*apart)  # one noise protects both records
