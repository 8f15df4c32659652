"""Encoding and collating, and the cut into physical batches."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpft.performance import Performance
from dpft.records import (
    _worth_padding,
    collate,
    length_of,
    length_sorted_batches,
    user_batches,
)


@given(
    lengths=st.lists(st.integers(1, 200), max_size=60),
    budget=st.integers(1, 400),
    largest=st.integers(1, 20),
)
def test_physical_batches_are_a_partition_within_the_budget(
    lengths: list[int], budget: int, largest: int
) -> None:
    performance = Performance(token_budget=budget, max_physical_batch=largest)
    parts = list(length_sorted_batches(lengths, performance))
    assert sorted(index for part in parts for index in part) == list(range(len(lengths)))
    for part in parts:
        padded = len(part) * max(lengths[index] for index in part)
        assert len(part) == 1 or (padded <= budget and len(part) <= largest)


def cost(parts: Sequence[Sequence[int]], lengths: Sequence[int], overhead: int) -> int:
    return sum(overhead + len(part) * max(lengths[index] for index in part) for part in parts)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=9), overhead=st.integers(0, 60))
def test_the_cut_costs_least_of_all_where_no_batch_is_full(
    lengths: list[int], overhead: int
) -> None:
    performance = Performance(token_budget=10**6, batch_overhead=overhead)
    found = cost(list(length_sorted_batches(lengths, performance)), lengths, overhead)
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    for marks in itertools.product([False, True], repeat=len(lengths) - 1):
        bounds = [0, *(i + 1 for i, mark in enumerate(marks) if mark), len(lengths)]
        cut = [order[start:end] for start, end in itertools.pairwise(bounds)]
        assert found <= cost(cut, lengths, overhead)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    budget=st.integers(1, 90),
    overhead=st.integers(0, 60),
)
def test_the_cut_never_costs_more_than_filling_every_batch(
    lengths: list[int], budget: int, overhead: int
) -> None:
    performance = Performance(token_budget=budget, batch_overhead=overhead)
    found = cost(list(length_sorted_batches(lengths, performance)), lengths, overhead)
    filled, left = [], sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while left:
        size = max(1, budget // lengths[left[0]])
        filled.append(left[:size])
        left = left[size:]
    assert found <= cost(filled, lengths, overhead)


def test_of_very_many_different_lengths_few_cuts_are_looked_at() -> None:
    descending, drops = range(2000, 0, -1), range(1, 2000)
    looked = [
        list(_worth_padding(descending, drops, range(start, len(drops)), 50)) for start in drops
    ]
    assert max(map(len, looked)) < 20
    longest = max(length_sorted_batches(descending, Performance(token_budget=10**9)), key=len)
    assert len(longest) < 20


def test_an_empty_sample_makes_no_batch_and_a_giant_record_one_of_its_own() -> None:
    performance = Performance(token_budget=8)
    assert list(length_sorted_batches([], performance)) == []
    assert next(length_sorted_batches([4, 10**9, 0, 4], performance)) == [1]


def test_tokens_in_arrays_and_tensors_count_as_those_in_lists() -> None:
    for ids in ([1, 2, 3], (1, 2, 3), np.array([1, 2, 3]), torch.tensor([1, 2, 3])):
        assert length_of({"input_ids": ids}) == 3
    assert length_of({"input_ids": torch.tensor(3)}) == length_of({"x": [1, 2]}) == 1


def test_without_overhead_no_token_is_padded() -> None:
    lengths = [3, 5, 3, 9, 5, 3]
    parts = list(length_sorted_batches(lengths, Performance(batch_overhead=0)))
    assert [[lengths[index] for index in part] for part in parts] == [[9], [5, 5], [3, 3, 3]]


def test_lists_are_padded_right_and_numbers_stacked() -> None:
    batch = collate(
        [
            {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "labels": 2},
            {"input_ids": [8], "attention_mask": [1], "labels": 0},
        ],
        pad_token_id=9,
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [2, 0]


def test_padded_labels_carry_no_loss() -> None:
    batch = collate([{"labels": [1, 2]}, {"labels": [3]}], pad_token_id=0)
    assert batch["labels"].tolist() == [[1, 2], [3, -100]]


def test_users_stand_together_whole_within_the_budget_unless_one_exceeds_it() -> None:
    lengths = [[3] * 9, [4, 2], [7], [1, 1], [2], [30]]
    performance = Performance(token_budget=20, max_physical_batch=4)
    batches = list(user_batches(lengths, performance))
    assert sorted(user for batch in batches for user in batch) == list(range(len(lengths)))
    for batch in batches:
        records = len(batch) * max(len(lengths[user]) for user in batch)
        tokens = records * max(length for user in batch for length in lengths[user])
        assert len(batch) == 1 or (records <= 4 and tokens <= 20)
    assert [0] in batches
    assert [5] in batches
    assert any(len(batch) > 1 for batch in batches)
