"""Texts longer than the model takes: refused by row, before a model is loaded.

transformers is imported when texts have to be counted, and no sooner.
"""

from collections.abc import Sequence
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import base_model_path
from dpft.recipes.tasks import Row, Task
from dpft.recipes.tasks.traits import TaskKind, traits_of
from dpft.recipes.text_targets import lengths_of_text_targets

__all__ = ["refuse_long_texts"]

_CHUNK = 1000
_MAX_PROBLEMS = 5  # more rows with the same mistake teach nothing


def refuse_long_texts(
    rows: Sequence[Row], task: Task, base_model: str, max_length: int, place: str
) -> None:
    """Raise if a text is longer than the model takes, unless the task says that texts are cut.

    Args:
        rows: Records in the order of their file.
        task: The task.
        base_model: Name of the base model, whose tokenizer counts.
        max_length: Most tokens of a record, special ones included.
        place: What the rows are, as in "task.train".

    Raises:
        ConfigurationError: If there are such texts; the first few rows are named, from 1.

    Privacy:
        Messages name rows and lengths allowed, never content nor a text's own length
        (`tests/recipes/test_lengths.py`).
    """
    traits = traits_of(task)
    if traits.truncate or not rows:
        return
    counted = _lengths(rows, task, base_model)
    long = [number for number, length in enumerate(counted, 1) if length > max_length]
    if not long:
        return
    more = ["More rows have such problems."] if len(long) > _MAX_PROBLEMS else []
    raise ConfigurationError(
        [
            f"Expected {place} row={number} to have at most architecture.max_length={max_length} "
            "tokens. What is longer would be cut without a word. Raise architecture.max_length, "
            "shorten the text, or set task.truncate=true."
            for number in long[:_MAX_PROBLEMS]
        ]
        + more
    )


def _lengths(rows: Sequence[Row], task: Task, base_model: str) -> list[int]:
    from transformers import AutoConfig, AutoTokenizer

    path, traits = base_model_path(base_model), traits_of(task)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Expected model={base_model} to come with a tokenizer. Texts are counted by it. "
            "Correct the name."
        ) from error
    if traits.kind is TaskKind.TEXT:
        encodes = bool(AutoConfig.from_pretrained(path).is_encoder_decoder)
        return lengths_of_text_targets(rows, traits, tokenizer, has_encoder=encodes)
    pair = traits.pair_field
    lengths: list[int] = []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        texts = [[row[field] for row in chunk] for field in (task.text_field, pair) if field]
        found: Any = tokenizer(*texts, truncation=False, verbose=False)["input_ids"]
        lengths += map(len, found)
    return lengths
