"""Writes texts for held-out tables and scores them against all references of each."""

import json
import re
from pathlib import Path
from typing import Any

from dpft.privacy import EvaluationStatus
from dpft.recipes.generation.beam import generate
from dpft.recipes.held_out_records import metric_of
from dpft.recipes.metrics.accuracy import Metrics
from dpft.recipes.metrics.measurement import measure, refuse_private
from dpft.recipes.metrics.registry import metric
from dpft.recipes.models import LoadedModel
from dpft.recipes.preparation import Prepared
from dpft.recipes.tasks import Row
from dpft.recipes.tasks.references import by_table
from dpft.recipes.text_targets import prompt_tokens, shortened

__all__ = ["judge_texts", "words_apart"]

_WORDS_APART = {"dart"}  # metrics whose references are tokenised in lower case, as the papers' are
_FILE = "generations.jsonl"


def judge_texts(
    model: Any, loaded: LoadedModel, prepared: Prepared, folder: Path | None = None
) -> Metrics:
    """Write a text for every held-out table, and score the texts.

    Args:
        model: The trained model; it is put into eval mode.
        loaded: Its tokenizer and length.
        prepared: Held-out records, and what a metric on them costs.
        folder: Where to write `generations.jsonl`: inputs, texts and references; unset: nowhere.

    Returns:
        The metrics of the task; none if there are no held-out records.

    Raises:
        BrokenGuaranteeError: If the records are not public.

    Privacy:
        Figures carry no noise, hence only public records are scored, and only their texts are
        written (`tests/recipes/generation/test_judging.py`).
    """
    status = prepared.privacy.evaluation
    if status is None or status is EvaluationStatus.NONE:
        return Metrics()
    name = metric_of(prepared.task)
    refuse_private(name, status)
    task = prepared.task
    pair = prepared.traits.pair_field
    fields = (task.text_field, *((pair,) if pair is not None else ()))
    inputs = by_table(prepared.held_out, fields, task.label_field)
    rows, references = [row for row, _ in inputs], [texts for _, texts in inputs]
    prompts = _prompts(rows, loaded, prepared)
    written = generate(model, loaded.tokenizer, prompts, prepared.settings.generation)
    measured = measure(
        metric(name),
        [_scored(name, text) for text in written],
        [[_scored(name, text) for text in texts] for texts in references],
        status,
    )
    if folder is not None:
        _write(folder / _FILE, rows, written, references)
    return measured.metrics


def words_apart(text: str) -> str:
    """Put spaces around every sign, in lower case.

    Args:
        text: Any text.

    Privacy:
        Nothing, no data touched.

    References:
        Hu et al. 2022 (2106.09685), released decoding (`--tokenize --lower`).

    Example:
        >>> words_apart("Blue Spice's food.")
        "blue spice ' s food ."
    """
    return " ".join(" ".join(re.split(r"(\W)", text)).split()).lower()


def _prompts(rows: list[Row], loaded: LoadedModel, prepared: Prepared) -> list[list[int]]:
    """Return what the model reads of each input; of one that is too long the end is left out."""
    prompts = prompt_tokens(rows, prepared.traits, loaded.tokenizer, has_encoder=loaded.has_encoder)
    return [shortened(ids, loaded.max_length) for ids in prompts]


def _scored(name: str, text: str) -> str:
    return words_apart(text) if name in _WORDS_APART else text


def _write(path: Path, rows: list[Row], written: list[str], references: list[list[str]]) -> None:
    lines = [
        json.dumps({"input": row, "written": text, "references": texts}, ensure_ascii=False)
        for row, text, texts in zip(rows, written, references, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
