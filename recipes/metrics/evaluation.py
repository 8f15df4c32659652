"""Predicts held-out records with a trained classifier and counts what is right."""

from typing import TYPE_CHECKING

import torch

from dpft.losses import Pooling, classification_logits
from dpft.performance import Performance
from dpft.privacy import EvaluationStatus, Privacy
from dpft.recipes.metrics.accuracy import Metrics, accuracy
from dpft.records import collate, length_sorted_batches

if TYPE_CHECKING:
    from dpft.recipes.models import Encoded

__all__ = ["evaluate", "predict_logits"]


def evaluate(
    model: torch.nn.Module, encoded: "Encoded", pooling: Pooling, privacy: Privacy
) -> Metrics:
    """Evaluate a classifier on held-out records.

    Args:
        model: Classifier; it is put into eval mode.
        encoded: Held-out records.
        pooling: How token states become one prediction.
        privacy: Its `evaluation` says what the metric costs.

    Returns:
        The metrics, in the form that their status allows.

    Privacy:
        As `accuracy`. The count itself is never returned.
    """
    status = privacy.evaluation
    if status is None or status is EvaluationStatus.NONE:
        return Metrics()
    logits_BC = predict_logits(model, encoded, pooling)
    labels_B = torch.tensor([row["labels"] for row in encoded.records])
    raw_correct = int((logits_BC.argmax(dim=-1) == labels_B).sum())
    num_records = privacy.evaluation_records or len(labels_B)
    return accuracy(raw_correct, num_records, status, privacy.evaluation_epsilon)


@torch.no_grad()
def predict_logits(
    model: torch.nn.Module,
    encoded: "Encoded",
    pooling: Pooling,
    performance: Performance | None = None,
) -> torch.Tensor:
    """Return the logits of every record, [B, C], in the order of the records.

    Args:
        model: Classifier; it is put into eval mode.
        encoded: Records.
        pooling: How token states become one prediction.
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
        out_BC = classification_logits(model, moved, pooling).float().cpu()
        for index, out_C in zip(indices, out_BC, strict=True):
            logits[index] = out_C
    return torch.stack([out_C for out_C in logits if out_C is not None])
