"""From text to tensors: encoding, collating, and cutting a logical batch into physical ones."""

import dataclasses
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from dpft.performance import Performance

__all__ = [
    "BATCH_OVERHEAD",
    "TOKEN_BUDGET",
    "Collate",
    "EncodingSettings",
    "Row",
    "collate",
    "encode",
    "length_of",
    "length_sorted_batches",
    "user_batches",
]

Row = Mapping[str, Any]
_PADDING = {"attention_mask": 0, "token_type_ids": 0, "labels": -100}
_CHUNK = 1000
# On one core with AVX2, MiniLM and LoRA; larger budgets gain nothing there (docs/engine.md).
BATCH_OVERHEAD = 50
TOKEN_BUDGET = 2048


@dataclasses.dataclass(frozen=True)
class EncodingSettings:
    """Which columns are encoded, and how long a record may become.

    Args:
        text_field: Column of the text.
        pair_field: Column of a second text, None for single texts.
        label_field: Column of the label, None for unlabelled records.
        user_field: Column that names the owner of a record, which is no input of the model; to be
            given exactly where the unit of privacy is a user.
        max_length: Most tokens of a record, special ones included; longer ones are cut.

    Privacy:
        Nothing, no data touched.
    """

    text_field: str = "text"
    pair_field: str | None = None
    label_field: str | None = "label"
    user_field: str | None = None
    max_length: int = 128


def encode(
    rows: Sequence[Row],
    tokenizer: Any,
    settings: EncodingSettings,
) -> list[dict[str, Any]]:
    """Tokenise records, each for itself.

    Args:
        rows: Records as mappings.
        tokenizer: A Hugging Face tokenizer.
        settings: Columns and length.

    Returns:
        One row a record: `input_ids`, `attention_mask` and what else the tokenizer gives, as lists,
        and `labels`.

    Privacy:
        Row b depends on record b only. The rows are raw data.
    """
    encoded: list[dict[str, Any]] = []
    for start in range(0, len(rows), _CHUNK):
        chunk = [rows[index] for index in range(start, min(start + _CHUNK, len(rows)))]
        texts = [[str(row[settings.text_field]) for row in chunk]]
        if settings.pair_field is not None:
            texts.append([str(row[settings.pair_field]) for row in chunk])
        columns = tokenizer(*texts, truncation=True, max_length=settings.max_length)
        for index, row in enumerate(chunk):
            one = {name: columns[name][index] for name in columns}
            if settings.label_field is not None:
                one["labels"] = row[settings.label_field]
            encoded.append(one)
    return encoded


def collate(rows: Sequence[Row], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Stack rows into tensors whose first dimension runs over records; lists are padded right.

    Args:
        rows: Encoded records, at least one.
        pad_token_id: Padding of `input_ids` and `decoder_input_ids`.

    Returns:
        {name: tensor [B] or [B, T]}.
    """
    batch = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, (list, tuple)):
            fill = _PADDING.get(name, pad_token_id)
            length = max(map(len, values))
            values = [[*value, *[fill] * (length - len(value))] for value in values]
        batch[name] = torch.tensor(values)
    return batch


def length_sorted_batches(lengths: Sequence[int], performance: Performance) -> Iterator[list[int]]:
    """Cut records into physical batches of similar length within the token budget.

    Sorted by length, they are cut where the sum over batches of batch_overhead + records x longest
    is least. Records of equal length are parted only where a batch is full.

    Args:
        lengths: Length of each record in tokens.
        performance: Token budget, largest batch, and what a batch costs beside its tokens.

    Yields:
        Positions of the records of one physical batch, longest records first.

    Privacy:
        Any cut gives the same clipped sum: order inside a logical batch cannot matter
        (`tests/dpft/test_private_step.py::test_physical_batches_do_not_change_the_update`).
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    bounds = _cheapest_bounds([max(1, lengths[index]) for index in order], performance)
    for start, end in itertools.pairwise(bounds):
        yield order[start:end]


def _cheapest_bounds(descending: Sequence[int], performance: Performance) -> list[int]:
    """Return where the batches of the cheapest cut begin, and the end, by dynamic programming."""
    count, overhead = len(descending), performance.batch_overhead
    overhead = BATCH_OVERHEAD if overhead is None else overhead
    drops = [i for i in range(1, count) if descending[i] < descending[i - 1]]
    costs, begins = {0: 0}, {0: 0}  # of each bound: the cost up to it, where its batch begins
    for start in range(count):
        if start not in costs:
            continue
        longest = descending[start]
        full = min(count, start + _most_records(longest, performance))
        within = range(bisect_right(drops, start), bisect_left(drops, full))
        for end in (*_worth_padding(descending, drops, within, overhead), full):
            cost = costs[start] + overhead + (end - start) * longest
            if cost < costs.get(end, cost + 1):
                costs[end], begins[end] = cost, start
    bounds = [count]
    while bounds[-1]:
        bounds.append(begins[bounds[-1]])
    return bounds[::-1]


def _worth_padding(
    descending: Sequence[int], drops: Sequence[int], within: range, overhead: int
) -> Iterator[int]:
    """Yield where a batch may end, while no part in the middle of it saves more than it costs.

    What was not worth its padding is less so with more records: few ends are looked at, where all
    of them would take time with the square of the number of lengths.
    """
    for place in within:
        end, middle = drops[place], drops[(within.start + place) // 2]
        longest = descending[drops[within.start] - 1]  # of the batch: nothing drops before
        if (end - middle) * (longest - descending[middle]) > overhead:
            return
        yield end


def _most_records(longest: int, performance: Performance) -> int:
    budget = performance.token_budget or TOKEN_BUDGET
    return max(1, min(performance.max_physical_batch, budget // longest))


def user_batches(lengths: Sequence[Sequence[int]], performance: Performance) -> Iterator[list[int]]:
    """Cut users into physical batches that hold whole users, each within the token budget.

    Users of as many records stand together, because the joint gradients of a batch are laid out
    for the largest number of records that one of its users has.

    Args:
        lengths: For each user the lengths of the records in tokens.
        performance: Token budget and largest batch.

    Yields:
        Positions of the users of one physical batch. A user who exceeds the budget stands alone.

    Privacy:
        Any cut gives the same clipped sum: order inside a logical batch cannot matter.
    """
    longest = [max(each) for each in lengths]
    chosen: list[int] = []
    for user in sorted(range(len(lengths)), key=lambda user: (-len(lengths[user]), -longest[user])):
        candidate = [*chosen, user]
        records = len(candidate) * len(lengths[candidate[0]])
        tokens = records * max(longest[each] for each in candidate)
        budget = performance.token_budget or TOKEN_BUDGET
        within = records <= performance.max_physical_batch and tokens <= budget
        if chosen and not within:
            yield chosen
            candidate = [user]
        chosen = candidate
    if chosen:
        yield chosen


def length_of(row: Row) -> int:
    """Return the number of tokens of an encoded row, 1 if it has no `input_ids`.

    They may be a list, an array or a tensor.
    """
    ids: Any = row.get("input_ids")
    has_length = isinstance(ids, Sequence) or getattr(ids, "ndim", 0) > 0
    return len(ids) if has_length else 1


Collate = Callable[[Sequence[Row]], Mapping[str, torch.Tensor]]
