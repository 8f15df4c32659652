"""Batches that carry the kept hidden states of their records, and the loss that uses them.

Records get the number of their place, the collate looks their states up (and computes those of
records that were never used before), and the states travel as one more entry of the batch: the
engine then treats them as what they are, record data.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dpft.engine.attachment import Engine, PerRecordLoss
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.frozen_prefix import FrozenBlocks, frozen_blocks
from dpft.frozen_prefix_storage import KeptStates, StateFormat
from dpft.performance import FrozenPrefix
from dpft.preflight import SyntheticRecords, agreement
from dpft.records import Collate, Row, length_of

__all__ = [
    "CachedRecords",
    "NumberedRecords",
    "NumberedRow",
    "PrefixBatches",
    "PrefixCache",
    "PrefixLoss",
]

_STATES = "raw_frozen_states"  # entry of a batch
_IDS = "input_ids"


class NumberedRow(Mapping[str, Any]):
    """A row that knows its place among the records.

    Args:
        row: The row.
        number: Its place, from 0.

    Privacy:
        A raw record.
    """

    __slots__ = ("number", "row")

    def __init__(self, row: Row, number: int) -> None:
        """Keep both."""
        self.row = row
        self.number = number

    def __getitem__(self, name: str) -> Any:
        """Return a field of the row."""
        return self.row[name]

    def __iter__(self) -> Iterator[str]:
        """Name the fields of the row; the number is none."""
        return iter(self.row)

    def __len__(self) -> int:
        """Count the fields."""
        return len(self.row)


class NumberedRecords(Sequence[Row]):
    """Records that know their places.

    Args:
        records: Encoded rows.

    Privacy:
        Raw records.
    """

    def __init__(self, records: Sequence[Row]) -> None:
        """Keep the records."""
        self._records = records

    def __len__(self) -> int:
        """Count the records."""
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        """Return one row with its number; slices are not asked for."""
        return NumberedRow(self._records[index], int(index))


class PrefixLoss:
    """A per-record loss that passes the frozen blocks over where a batch carries their states.

    Args:
        loss: The loss itself.
        blocks: The frozen blocks.

    Privacy:
        Loss b is a function of record b, as that of the loss itself.
    """

    def __init__(self, loss: PerRecordLoss, blocks: FrozenBlocks) -> None:
        """Keep both."""
        self._loss = loss
        self._blocks = blocks

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return losses [B]."""
        if _STATES not in batch:
            return self._loss(model, batch)
        inputs = {name: value for name, value in batch.items() if name != _STATES}
        with self._blocks.returning(batch[_STATES]):
            return self._loss(model, inputs)


class PrefixBatches:
    """A collate that adds the hidden states which leave the frozen blocks.

    Args:
        blocks: The frozen blocks.
        loss: The loss itself, which runs them.
        collate: The collate itself.
        kept: Where states are kept.

    Privacy:
        States are computed for records that a step uses, when it first does. Row b of them is a
        function of record b.
    """

    def __init__(
        self, blocks: FrozenBlocks, loss: PerRecordLoss, collate: Collate, kept: KeptStates
    ) -> None:
        """Keep what is needed; nothing is computed yet."""
        self._blocks = blocks
        self._loss = loss
        self._collate = collate
        self._kept = kept
        self._raw_marks: dict[int, int] = {}  # of every record that was used

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return the tensors of numbered rows, with their states [B, T, D].

        Raises:
            BrokenGuaranteeError: If the collate pads on the left, or a record has changed.
        """
        numbered = [_numbered(row) for row in rows]
        batch = dict(self._collate([each.row for each in numbered]))
        self._complete(numbered, batch)
        tokens = batch[_IDS]
        numbers = [each.number for each in numbered]
        batch[_STATES] = self._kept.get(numbers, tokens.shape[1]).to(tokens.device)
        return batch

    def _complete(self, rows: Sequence[NumberedRow], batch: Mapping[str, torch.Tensor]) -> None:
        """Compute the states of records that have none yet."""
        numbers = [row.number for row in rows]
        is_kept, lengths = self._kept.has(numbers), self._kept.raw_lengths(numbers)
        for row, kept, length in zip(rows, is_kept, lengths, strict=True):
            has_changed = kept and self._raw_marks[row.number] != _mark(row)
            if has_changed or length != max(1, length_of(row)):
                raise _changed()
        missing = [row for row, kept in zip(rows, is_kept, strict=True) if not kept]
        if not missing:
            return
        if len(missing) < len(rows):
            batch = self._collate([row.row for row in missing])
        _refuse_moved(missing, batch)
        raw_states_BTD = self._blocks.raw_states(self._loss, batch)
        if raw_states_BTD.shape[:2] != batch[_IDS].shape:
            raise _moved()
        self._raw_marks.update((row.number, _mark(row)) for row in missing)
        self._kept.put([row.number for row in missing], raw_states_BTD)


@dataclasses.dataclass(frozen=True)
class PrefixCache:
    """What leaves the frozen blocks of a model, computed once for each record.

    Args:
        blocks: The frozen blocks.
        loss: The loss itself.
        form: What is kept of a token.

    Privacy:
        Changes neither the update nor epsilon
        (`tests/dpft/test_frozen_prefix_batches.py::test_the_cache_does_not_change_the_update`).
        What is kept is raw, stays in this process, and is never logged or saved.
    """

    blocks: FrozenBlocks
    loss: PerRecordLoss
    form: StateFormat

    @classmethod
    def of(cls, engine: Engine, synthetic: SyntheticRecords) -> "PrefixCache":
        """Find the frozen blocks and let an engine's loss pass them over.

        Args:
            engine: The engine of the model that will train.
            synthetic: Public records, with the collate of the private ones.

        Raises:
            ConfigurationError: If nothing is frozen at the bottom, something random happens
                there, or the architecture is not known.
            BrokenGuaranteeError: If losses or gradients differ from those without the cache.

        Privacy:
            Nothing, no data touched: the records are synthetic.
        """
        loss, batch = engine.loss, synthetic.batch()
        if _IDS not in batch:
            raise ConfigurationError(
                "Expected records of tokens (input_ids) to keep what frozen blocks return of them. "
                "One state is kept for each token. Set performance.frozen_prefix=off."
            )
        blocks = frozen_blocks(engine.model, loss, batch)
        blocks.refuse_randomness(loss, batch)
        states = blocks.raw_states(loss, batch)
        cache = cls(blocks, loss, StateFormat(states.shape[-1], states.dtype))
        engine.loss = PrefixLoss(loss, blocks)
        cache._refuse_another_loss(engine, synthetic)
        return cache

    def over(
        self, records: Sequence[Row], collate: Collate, place: FrozenPrefix
    ) -> "CachedRecords":
        """Return records and a collate that keep and use the states.

        Args:
            records: Encoded rows.
            collate: Makes tensors of them.
            place: Where states are kept.

        Raises:
            ConfigurationError: If they do not fit.

        Privacy:
            As `KeptStates`.
        """
        kept = KeptStates([length_of(row) for row in records], self.form, place)
        batches = PrefixBatches(self.blocks, self.loss, collate, kept)
        return CachedRecords(NumberedRecords(records), batches, kept)

    def over_synthetic(self, synthetic: SyntheticRecords) -> SyntheticRecords:
        """Return synthetic records that take the path of the private ones.

        Args:
            synthetic: Public records.

        Privacy:
            Nothing, no data touched.
        """
        cached = self.over(synthetic.rows, synthetic.collate, FrozenPrefix.MEMORY)
        return SyntheticRecords(list(cached.records), cached.collate)

    def _refuse_another_loss(self, engine: Engine, synthetic: SyntheticRecords) -> None:
        cached = self.over_synthetic(synthetic)
        # Those of a record alone are kept by now: they must not depend on its batch-mates, whose
        # influence the preflight could no more see.
        pairs = [(synthetic.batch(), cached.batch())]
        pairs += zip(synthetic.singles(), cached.singles(), strict=True)
        for plain, kept in pairs:
            check = agreement(engine, plain, kept)
            if not check.passed:
                raise BrokenGuaranteeError(
                    f"Expected {check.name}, got {check.value:.2g} > {check.tolerance:.2g} on "
                    "synthetic records. Another loss would be trained than without the cache: one "
                    "that looks into the frozen blocks, runs the model on several inputs, or draws "
                    "them. Set performance.frozen_prefix=off."
                )


@dataclasses.dataclass(frozen=True)
class CachedRecords:
    """Records whose batches carry kept states.

    Args:
        records: Rows with their numbers.
        collate: Makes tensors of them, states included.
        kept: Where states are kept; to be closed at the end of the run.

    Privacy:
        Raw records and what was computed of them.
    """

    records: Sequence[Row] = dataclasses.field(repr=False)
    collate: PrefixBatches = dataclasses.field(repr=False)
    kept: KeptStates = dataclasses.field(repr=False)


def _numbered(row: Row) -> NumberedRow:
    assert isinstance(row, NumberedRow), "samplers hand on what the records gave them"
    return row


def _mark(row: Row) -> int:
    """Return a number that changes with every field: masks and types of tokens enter states too."""
    return hash(repr([(name, _plain(value)) for name, value in row.items()]))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value  # whole, where repr cuts arrays


def _refuse_moved(rows: Sequence[Row], batch: Mapping[str, torch.Tensor]) -> None:
    """Raise unless the tokens of every record stand at the beginning of its row of the batch."""
    for row, tokens in zip(rows, batch[_IDS].tolist(), strict=False):
        if tokens[: length_of(row)] != list(_plain(row[_IDS])):
            raise _moved()
    if len(batch[_IDS]) != len(rows):
        raise _moved()


def _moved() -> BrokenGuaranteeError:
    return BrokenGuaranteeError(
        "Expected the collate to keep records in order and whole, padded on the right alone, and "
        "the model to return one state a token. States could be put back at other tokens "
        "otherwise. Pad on the right, or set performance.frozen_prefix=off."
    )


def _changed() -> BrokenGuaranteeError:
    return BrokenGuaranteeError(
        "Expected records to stay the same during a run. What the frozen blocks returned of them "
        "is kept, and would be that of other tokens. Encode records before the run, or set "
        "performance.frozen_prefix=off."
    )
