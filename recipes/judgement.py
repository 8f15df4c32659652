"""Judges a trained model on held-out records, by labels or by the texts that it writes."""

from pathlib import Path
from typing import Any

from dpft.recipes.generation.judging import judge_texts
from dpft.recipes.metrics.accuracy import Metrics
from dpft.recipes.metrics.evaluation import evaluate
from dpft.recipes.models import LoadedModel
from dpft.recipes.preparation import Prepared
from dpft.recipes.tasks.traits import TaskKind

__all__ = ["judge"]


def judge(
    model: Any, loaded: LoadedModel, prepared: Prepared, folder: Path | None = None
) -> Metrics:
    """Evaluate a model on the held-out records of a run.

    Args:
        model: The trained model; it is put into eval mode.
        loaded: The base model it was made of, its tokenizer and encoding.
        prepared: The run.
        folder: Where texts written for public records are kept; unset: nowhere.

    Returns:
        The metrics, in the form that their status allows.

    Privacy:
        As `dpft.recipes.metrics.evaluation.evaluate` and
        `dpft.recipes.generation.judging.judge_texts`.
    """
    if prepared.traits.kind is TaskKind.TEXT:
        return judge_texts(model, loaded, prepared, folder)
    held_out = loaded.encode(prepared.held_out, prepared.task)
    return evaluate(model, held_out, loaded.scoring, prepared.privacy, prepared.traits)
