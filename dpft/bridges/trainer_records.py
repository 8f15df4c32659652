"""Training records as a Trainer takes them in: its data set, its columns, its collator."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import torch
from transformers import DefaultDataCollator, default_data_collator

from dpft.accounting import steps_from_epochs
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.intake import taken_in
from dpft.privacy import Privacy
from dpft.records import Row, collate, length_of
from dpft.synthetic import synthetic_rows

__all__ = ["Collator", "TrainerRecords", "collator_problems", "planned_steps", "synthetic_for"]

_LABELS = ("label", "label_ids")  # what the Trainer's collators take for `labels`


class TrainerRecords(Sequence[Row]):
    """The rows of a data set, with the columns that the model takes, as plain values.

    Args:
        dataset: A `datasets.Dataset`, a list of rows, or anything with a length and positions.
        columns: Names that are kept; unset: all of them.

    Raises:
        ConfigurationError: If records cannot be reached by their position, or are not encoded.

    Privacy:
        Raw records. Poisson sampling needs every record at every step, which a stream has not.
    """

    def __init__(self, dataset: Any, columns: frozenset[str] | None) -> None:
        """Keep the data set; rows are read when they are asked for."""
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or not dataset:
            raise ConfigurationError(
                f"Expected train_dataset={type(dataset).__name__} to have a length and positions, "
                "and at least one record. Every record enters every step with its probability, "
                "which a stream does not allow. Give a datasets.Dataset or a list."
            )
        self._dataset = dataset
        self._columns = columns
        if not isinstance(dataset[0], Mapping) or "input_ids" not in self[0]:
            raise ConfigurationError(
                "Expected every row of train_dataset to be a mapping with input_ids. The engine "
                "trains on encoded records. Tokenise the data set, as by dataset.map."
            )

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = self._dataset[index]
        return {
            name: value.tolist() if hasattr(value, "tolist") else value
            for name, value in row.items()
            if self._columns is None or name in self._columns
        }


@dataclasses.dataclass(frozen=True)
class Collator:
    """A Trainer's data collator, watched: one row in each tensor for every record.

    Args:
        function: The collator.
        pad_token_id: Padding for the Trainer's default one, which cannot pad.

    Raises:
        BrokenGuaranteeError: If records are packed together, or something is no tensor.

    Privacy:
        Refuses what joins records (`test_a_collator_that_joins_records_is_refused`).
    """

    function: Callable[[Any], Mapping[str, Any]]
    pad_token_id: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return tensors [B, ...] of B rows."""
        if self.function is default_data_collator or isinstance(self.function, DefaultDataCollator):
            return collate(_masked([_with_labels(row) for row in rows]), self.pad_token_id)
        batch = dict(self.function([dict(row) for row in rows]))
        for name, value in batch.items():
            if not isinstance(value, torch.Tensor) or value.shape[:1] != (len(rows),):
                shape = list(getattr(value, "shape", [])) or type(value).__name__
                raise BrokenGuaranteeError(
                    f"Expected data_collator to make a tensor with one row for each of "
                    f"{len(rows)} records of {name}, got {shape}. Records that are packed into "
                    "one row cannot be clipped one by one. Use a collator that pads."
                )
        return batch


def planned_steps(privacy: Privacy, records: Sequence[Row], user_field: str | None) -> int:
    """Return the steps of a plan, without the search for its noise.

    Args:
        privacy: The guarantee asked for.
        records: The records; their number is used where none was stated, and is then public.
        user_field: Column that names owners, with unit=user.

    Privacy:
        As `dpft.Privacy.plan`.
    """
    if privacy.epochs is None:
        return privacy.steps or 0
    count = privacy.num_records or taken_in(records, privacy, user_field).count
    return steps_from_epochs(privacy.epochs, count, privacy.expected_batch_size)


def collator_problems(collator: object) -> list[str]:
    """Return what a private run cannot do with a collator, as far as it shows.

    Args:
        collator: The collator of a Trainer.

    Privacy:
        Nothing, no data touched. What does not show here is found by the preflight.
    """
    problems = []
    packs = "DataCollatorWithFlattening" in [kind.__name__ for kind in type(collator).__mro__]
    if packs or getattr(collator, "padding_free", False):
        problems.append(
            f"Expected data_collator={type(collator).__name__} to pad. Records that are packed "
            "into one row cannot be clipped one by one. Use DataCollatorWithPadding."
        )
    if getattr(collator, "mlm", False):
        problems.append(
            f"Expected data_collator.mlm=False of {type(collator).__name__}. Masks drawn at random "
            "cannot be compared with a loop over single records. Mask the records beforehand, or "
            "set mlm=False for a causal model."
        )
    return problems


def synthetic_for(template: Row, config: Any) -> list[dict[str, Any]]:
    """Return public rows for the preflight, with the names that a data set has.

    Args:
        template: A row; only names and types are used.
        config: The model's configuration.

    Privacy:
        As `dpft.synthetic.synthetic_rows`.
    """
    own = next((name for name in _LABELS if name in template), "labels")
    rows = synthetic_rows(_with_labels(template), config)
    return [{own if name == "labels" else name: row[name] for name in row} for row in rows]


def _masked(rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Add the mask that rows of different lengths need, lest padding be read as words."""
    equal = len({length_of(row) for row in rows}) == 1
    if equal or "attention_mask" in rows[0]:
        return rows
    return [{**row, "attention_mask": [1] * length_of(row)} for row in rows]


def _with_labels(row: Row) -> dict[str, Any]:
    return {"labels" if name in _LABELS else name: value for name, value in row.items()}
