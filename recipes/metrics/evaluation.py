"""Predicts held-out records with a trained classifier and counts what is right."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from dpft.losses import Pooling, classification_logits
from dpft.performance import Performance
from dpft.privacy import EvaluationStatus, Privacy
from dpft.recipes.metrics.accuracy import Metrics, accuracy
from dpft.recipes.metrics.registry import glue_metric
from dpft.recipes.tasks.traits import TaskKind, Traits
from dpft.records import collate, length_sorted_batches

if TYPE_CHECKING:
    from dpft.recipes.models import Encoded

__all__ = ["Scoring", "evaluate", "predict_logits"]

Scoring: TypeAlias = Pooling | Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor]


def evaluate(
    model: torch.nn.Module,
    encoded: "Encoded",
    scoring: Scoring,
    privacy: Privacy,
    traits: Traits | None = None,
) -> Metrics:
    """Evaluate a model on held-out records: accuracy, the figures of GLUE, correlations of numbers.

    Args:
        model: Classifier; it is put into eval mode.
        encoded: Held-out records.
        scoring: How classes are scored: by pooling token states, or by a function of model and
            batch.
        privacy: Its `evaluation` says what the metric costs.
        traits: What is predicted, and whose figures are reported on public records; unset: labels.

    Returns:
        The metrics, in the form that their status allows.

    Privacy:
        As `accuracy`. The count itself is never returned.
    """
    status = privacy.evaluation
    if status is None or status is EvaluationStatus.NONE:
        return Metrics()
    of = traits or Traits()
    logits_BC = predict_logits(model, encoded, scoring)
    labels_B = torch.tensor([row["labels"] for row in encoded.records])
    if of.kind is TaskKind.REGRESSION:
        return _figures("stsb", logits_BC.squeeze(-1), labels_B, status)
    raw_correct = int((logits_BC.argmax(dim=-1) == labels_B).sum())
    num_records = privacy.evaluation_records or len(labels_B)
    found = accuracy(raw_correct, num_records, status, privacy.evaluation_epsilon)
    if of.figures is None or status is not EvaluationStatus.PUBLIC:
        return found
    more = _figures(of.figures, logits_BC.argmax(dim=-1), labels_B, status)
    return Metrics(values=more.values | found.values, status=more.status | found.status)


def _figures(
    task: str, predictions_B: torch.Tensor, labels_B: torch.Tensor, status: EvaluationStatus
) -> Metrics:
    from dpft.recipes.metrics.measurement import measure

    return measure(glue_metric(task), predictions_B.tolist(), labels_B.tolist(), status).metrics


@torch.no_grad()
def predict_logits(
    model: torch.nn.Module,
    encoded: "Encoded",
    scoring: Scoring,
    performance: Performance | None = None,
) -> torch.Tensor:
    """Return the logits of every record, [B, C], in the order of the records.

    Args:
        model: Classifier; it is put into eval mode.
        encoded: Records.
        scoring: How classes are scored, as in `evaluate`.
        performance: How the records are cut into batches.

    Returns:
        Logits on the CPU, float32.

    Privacy:
        The logits depend on the records and are for the caller's eyes only.
    """
    model.eval()
    device = next(model.parameters()).device
    logits: list[torch.Tensor | None] = [None] * len(encoded.records)
    lengths = [len(row["input_ids"]) for row in encoded.records]
    for indices in length_sorted_batches(lengths, performance or Performance()):
        batch = collate([encoded.records[i] for i in indices], encoded.pad_token_id)
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        out_BC = _scores(model, moved, scoring).float().cpu()
        for index, out_C in zip(indices, out_BC, strict=True):
            logits[index] = out_C
    return torch.stack([out_C for out_C in logits if out_C is not None])


def _scores(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], scoring: Scoring
) -> torch.Tensor:
    if isinstance(scoring, Pooling):
        return classification_logits(model, batch, scoring)
    return scoring(model, batch)
