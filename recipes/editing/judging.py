"""Accuracies of edited models, at the cost of the layers that an edit can change.

All edits change the last layers alone, so that what the others make of the held-out texts is the
same for every edit: it is computed once and replayed.
"""

import dataclasses
from typing import Any

import torch
from torch import nn

from dpft.performance import Performance
from dpft.recipes.editing.runs import TRAINED_LAYERS, Place, load_for
from dpft.recipes.models import Encoded, LoadedModel
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.corpora import CorpusName
from dpft.recipes.tasks.corpus import JudgedBy
from dpft.records import collate, length_sorted_batches

__all__ = ["Judge", "Judges"]

# Rows kept back decide between coefficients many times, test records once.
_MOST = {JudgedBy.KEPT_BACK: 300, JudgedBy.TEST: 1000}


@dataclasses.dataclass(frozen=True, eq=False)
class _Batch:
    args: tuple[Any, ...]
    options: dict[str, Any]
    weights: torch.Tensor
    labels: torch.Tensor


class _Reached(Exception):  # noqa: N818 - no error: the layers after it are not needed
    """A batch has come to the first layer that edits may change."""


class Judge:
    """Counts what edited models predict rightly of one task.

    Args:
        loaded: The base model with the head of the task.
        encoded: Held-out records, public.

    Privacy:
        Keeps the records' states in memory. Records are public benchmarks; nothing is charged.
    """

    def __init__(self, loaded: LoadedModel, encoded: Encoded) -> None:
        self._head: nn.Linear = loaded.model.classifier
        self._batches = _captured(loaded.model, encoded)

    @property
    def records(self) -> int:
        """Number of held-out records."""
        return sum(len(batch.labels) for batch in self._batches)

    @property
    def chance(self) -> float:
        """Accuracy of a guess among the classes, each as likely as any other."""
        return 1 / self._head.out_features

    @torch.no_grad()
    def accuracy(self, edited: nn.Module) -> float:
        """Return the share of records that an edited model predicts rightly, under the task's head.

        Args:
            edited: A model of the base's class, edited in the last layers alone; its head is not
                looked at.
        """
        raw_correct = sum(self._correct(edited, batch) for batch in self._batches)
        return raw_correct / self.records

    def _correct(self, edited: Any, batch: _Batch) -> int:
        hidden_BTD, *rest = batch.args
        for layer in edited.eval().bert.encoder.layer[-TRAINED_LAYERS:]:
            made = layer(hidden_BTD, *rest, **batch.options)
            hidden_BTD = made[0] if isinstance(made, tuple) else made
        mean_BD = (hidden_BTD * batch.weights).sum(1) / batch.weights.sum(1)
        predicted_B = self._head(mean_BD).argmax(-1)
        return int((predicted_B == batch.labels).sum())


class Judges:
    """The judges of all corpora in one place, made when they are asked for, and the base model.

    Args:
        place: Where model and data are.

    Privacy:
        Reads public held-out records.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._known: dict[tuple[CorpusName, JudgedBy], Judge] = {}
        self._of_base: dict[tuple[CorpusName, JudgedBy], float] = {}
        self.base: nn.Module = load_for(place, CorpusName.TREC).model
        """The base model, to be edited in copies; its head is not looked at."""

    def of(self, corpus: CorpusName, by: JudgedBy = JudgedBy.TEST) -> Judge:
        """Return the judge of a corpus by its test file, or by the training rows kept back."""
        if (corpus, by) not in self._known:
            loaded = load_for(self._place, corpus)
            task = self._place.task(corpus, judged_by=by, judged=_MOST[by])
            encoded = loaded.encode(task.load(Split.VALIDATION), task)
            self._known[corpus, by] = Judge(loaded, encoded)
        return self._known[corpus, by]

    def zero_shot(self, corpus: CorpusName, by: JudgedBy = JudgedBy.TEST) -> float:
        """Return the accuracy of the base model, which is computed once."""
        if (corpus, by) not in self._of_base:
            self._of_base[corpus, by] = self.of(corpus, by).accuracy(self.base)
        return self._of_base[corpus, by]


@torch.no_grad()
def _captured(model: Any, encoded: Encoded) -> list[_Batch]:
    model.eval()
    caught: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def catch(_module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        caught.append((args, options))
        raise _Reached

    lengths = [len(row["input_ids"]) for row in encoded.records]
    first = model.bert.encoder.layer[-TRAINED_LAYERS]
    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    batches = []
    for indices in length_sorted_batches(lengths, Performance()):
        rows = collate([encoded.records[index] for index in indices], encoded.pad_token_id)
        labels_B = rows.pop("labels")
        try:
            model(**rows)
        except _Reached:
            args, options = caught.pop()
            weights_BT1 = rows["attention_mask"].float().unsqueeze(-1)
            batches.append(_Batch(args, options, weights_BT1, labels_B))
    handle.remove()
    return batches
