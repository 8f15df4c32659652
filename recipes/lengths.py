"""Texts longer than the model takes: refused by row, before a model is loaded.

transformers is imported when texts have to be counted, and no sooner.
"""

from collections.abc import Callable, Sequence
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import stored_config, stored_tokenizer
from dpft.recipes.config.schema import Architecture, FamilyName
from dpft.recipes.infilling.encoding import lengths_of_worded
from dpft.recipes.infilling.wording import checked_wording
from dpft.recipes.tasks import Row, Split, Task
from dpft.recipes.tasks.traits import TaskKind, traits_of
from dpft.recipes.text_targets import lengths_of_text_targets

__all__ = ["refuse_long_texts"]

_CHUNK = 1000
_MAX_PROBLEMS = 5  # more rows with the same mistake teach nothing


def refuse_long_texts(
    rows: Sequence[Row], task: Task, base_model: str, architecture: Architecture, split: Split
) -> None:
    """Raise if a text is longer than the model takes, unless the task says that texts are cut.

    Args:
        rows: Records in the order of their file.
        task: The task.
        base_model: Name of the base model, whose tokenizer counts.
        architecture: Its `max_length` is the most tokens of a record, special ones and those of
            a template included.
        split: Which split the rows are; a task of files tells file and column of it.

    Raises:
        ConfigurationError: If there are such texts; the first few rows are named, from 1.

    Privacy:
        Messages name files, rows, columns and the length allowed, never content nor a text's own
        length (`tests/recipes/test_lengths.py`).
    """
    traits = traits_of(task)
    if traits.truncate or not rows:
        return
    counted, max_length = _lengths(rows, task, base_model, architecture), architecture.max_length
    long = [number for number, length in enumerate(counted, 1) if length > max_length]
    if not long:
        return
    place = _place(task, split)
    more = ["More rows have such problems."] if len(long) > _MAX_PROBLEMS else []
    raise ConfigurationError(
        [
            f"Expected {place(number)} to have at most architecture.max_length={max_length} "
            "tokens. What is longer would be cut without a word. Raise architecture.max_length, "
            "shorten the text, or set task.truncate=true."
            for number in long[:_MAX_PROBLEMS]
        ]
        + more
    )


def _place(task: Task, split: Split) -> Callable[[int], str]:
    """Return what names a row in messages: by file and column where the task has files."""
    file, column = getattr(task, "place", _nowhere)(split)
    return lambda number: f"{file} row={number}{column}"


def _nowhere(split: Split) -> tuple[str, str]:
    return f"task.{split.value}", ""


def _lengths(
    rows: Sequence[Row], task: Task, base_model: str, architecture: Architecture
) -> list[int]:
    traits = traits_of(task)
    try:
        tokenizer = stored_tokenizer(base_model)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Expected model={base_model} to come with a tokenizer. Texts are counted by it. "
            "Correct the name."
        ) from error
    if traits.kind is TaskKind.TEXT:
        encodes = bool(stored_config(base_model).is_encoder_decoder)
        return lengths_of_text_targets(rows, traits, tokenizer, has_encoder=encodes)
    if architecture.family is not FamilyName.CLASSIFIER:
        fills_in = architecture.family is FamilyName.INFILLING
        wording = checked_wording(
            task, architecture.template, architecture.label_words, with_mask=fills_in
        )
        fields = (task.text_field, traits.pair_field)
        return lengths_of_worded(rows, tokenizer, wording, fields)
    pair = traits.pair_field
    lengths: list[int] = []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        texts = [[row[field] for row in chunk] for field in (task.text_field, pair) if field]
        found: Any = tokenizer(*texts, truncation=False, verbose=False)["input_ids"]
        lengths += map(len, found)
    return lengths
