"""The sampler carries out exactly the sampling that the mechanism books."""

import dataclasses

import numpy as np
import pytest
import torch

from dpft.accounting import Adjacency
from dpft.errors import BrokenGuaranteeError
from dpft.performance import Performance
from dpft.privacy import PlannedLength
from dpft.randomness import PinnedRandomness
from dpft.records import collate
from dpft.sampling import LogicalBatch, PoissonSampler, UserSampler
from dpft.users import Users

RECORDS, STEPS, EXPECTED = 300, 200, 30
LENGTH = PlannedLength(
    num_records=RECORDS,
    expected_batch_size=EXPECTED,
    steps=STEPS,
    adjacency=Adjacency.ZERO_OUT,
)


def rows(batch: LogicalBatch) -> list[int]:
    return [
        int(i) for part in batch.physical_batches(Performance()) for i in part["input_ids"][:, 0]
    ]


def sampler(seed: int = 0, records: int = RECORDS) -> PoissonSampler:
    data = [{"input_ids": [index] * (1 + index % 7)} for index in range(records)]
    return PoissonSampler(data, lambda chosen: collate(chosen, 0), LENGTH, PinnedRandomness(seed))


def test_participation_is_binomial_and_not_that_of_shuffled_epochs() -> None:
    source = sampler()
    sizes, counts = [], np.zeros(RECORDS)
    for step in range(STEPS):
        drawn = rows(source.draw(step))
        assert len(drawn) == len(set(drawn))
        sizes.append(len(drawn))
        counts[drawn] += 1
    rate = EXPECTED / RECORDS
    variance = STEPS * rate * (1 - rate)
    assert counts.mean() == pytest.approx(STEPS * rate, abs=5 * np.sqrt(variance / RECORDS))
    # each epoch of a shuffled pass would take every record once: variance 0
    assert counts.var() / variance == pytest.approx(1.0, abs=5 * np.sqrt(2 / RECORDS))
    assert np.var(sizes) / (RECORDS * rate * (1 - rate)) == pytest.approx(
        1.0, abs=5 * np.sqrt(2 / STEPS)
    )


def test_the_rate_is_the_planned_one_whatever_the_number_of_rows() -> None:
    source = sampler(records=4 * RECORDS)
    mean = np.mean([len(rows(source.draw(step))) for step in range(STEPS)])
    assert mean == pytest.approx(4 * EXPECTED, abs=5 * np.sqrt(4 * EXPECTED / STEPS))


def test_samples_of_different_steps_are_different() -> None:
    source = sampler()
    assert rows(source.draw(0)) != rows(source.draw(1))


@pytest.mark.parametrize("step", [-1, STEPS])
def test_a_step_that_was_not_planned_is_refused(step: int) -> None:
    with pytest.raises(BrokenGuaranteeError, match="steps=200"):
        sampler().draw(step)


def test_a_logical_batch_shows_neither_size_nor_content() -> None:
    batch = sampler().draw(7)
    assert repr(batch) == "LogicalBatch(step=7)"


def test_an_empty_sample_gives_no_physical_batch() -> None:
    batch = LogicalBatch([], lambda chosen: {"x": torch.ones(len(chosen))}, 0)
    assert list(batch.physical_batches(Performance())) == []


def user_sampler(seed: int = 0) -> tuple[UserSampler, Users]:
    owners = [f"u{index % 60}" for index in range(120)] + ["u0"] * 30  # one has 32 records
    data = [{"input_ids": [index]} for index in range(len(owners))]
    length = dataclasses.replace(LENGTH, num_records=60, expected_batch_size=6)
    users = Users(owners)
    return (
        UserSampler(data, users, lambda rows: collate(rows, 0), length, PinnedRandomness(seed)),
        users,
    )


def test_users_are_sampled_whole_and_at_the_planned_rate() -> None:
    source, users = user_sampler()
    owned = [set(users.records_of(user)) for user in range(len(users))]
    counts = np.zeros(len(users))
    for step in range(STEPS):
        drawn = {
            int(index)
            for batch in source.draw(step).user_batches(Performance(max_physical_batch=5))
            for part in batch.tensors()
            for index in part["input_ids"][:, 0]
        }
        present = [user for user in range(len(users)) if owned[user] & drawn]
        assert drawn == set().union(*(owned[user] for user in present))
        counts[present] += 1
    variance = STEPS * 0.1 * 0.9
    assert counts.mean() == pytest.approx(STEPS * 0.1, abs=5 * np.sqrt(variance / len(users)))
    assert counts.var() / variance == pytest.approx(1.0, abs=5 * np.sqrt(2 / len(users)))
    assert counts[0] == pytest.approx(STEPS * 0.1, abs=5 * np.sqrt(variance))  # not 32 times


def test_a_sample_of_users_is_never_cut_into_records_nor_the_other_way_round() -> None:
    users, _ = user_sampler()
    with pytest.raises(BrokenGuaranteeError, match="whole users"):
        list(users.draw(0).physical_batches(Performance()))
    with pytest.raises(BrokenGuaranteeError, match="one of records"):
        list(sampler().draw(0).user_batches(Performance()))
    assert UserSampler.name != PoissonSampler.name


def test_an_empty_sample_of_users_gives_no_batch() -> None:
    batch = LogicalBatch([], lambda chosen: {"x": torch.ones(len(chosen))}, 0, [])
    assert list(batch.user_batches(Performance())) == []
