"""Judges: the replayed layers count what the whole model would."""

import copy

import pytest
import torch

from dpft.recipes.editing.judging import Judge, Judges
from dpft.recipes.editing.runs import Place, load_for
from dpft.recipes.metrics.evaluation import predict_logits
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.corpora import CorpusName
from dpft.recipes.tasks.corpus import JudgedBy

CORPORA = (CorpusName.TREC, CorpusName.SST2)


def edited_copy(model: torch.nn.Module) -> torch.nn.Module:
    edited = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in edited.named_parameters():
            if ".layer.2." in name or ".layer.1." in name:
                value.add_(0.2 * torch.randn_like(value))
    return edited


@pytest.mark.parametrize("corpus", CORPORA)
def test_replayed_layers_predict_what_the_whole_model_does(
    place: Place, corpus: CorpusName
) -> None:
    loaded, task = load_for(place, corpus), place.task(corpus)
    encoded = loaded.encode(task.load(Split.VALIDATION), task)
    judge = Judge(loaded, encoded)
    for model in (loaded.model, edited_copy(loaded.model)):
        predicted = predict_logits(model, encoded, loaded.pooling).argmax(1)
        labels = torch.tensor([row["labels"] for row in encoded.records])
        expected = float((predicted == labels).double().mean())
        assert judge.accuracy(model) == pytest.approx(expected)


def test_edits_are_seen(place: Place, judges: Judges) -> None:
    edited = edited_copy(judges.base)
    before = [judges.of(corpus).accuracy(judges.base) for corpus in CORPORA]
    assert before != [judges.of(corpus).accuracy(edited) for corpus in CORPORA]


def test_the_head_of_a_task_judges_whatever_head_the_model_has(judges: Judges) -> None:
    other = copy.deepcopy(judges.base)
    other.classifier.weight.data.zero_()  # type: ignore[union-attr,operator]  # a linear head
    judge = judges.of(CorpusName.SST2)
    assert judge.accuracy(other) == judge.accuracy(judges.base)


def test_chance_is_one_of_the_classes(judges: Judges) -> None:
    assert judges.of(CorpusName.TREC).chance == pytest.approx(1 / 6)


def test_rows_kept_back_and_test_records_are_judged_apart(judges: Judges) -> None:
    assert judges.of(CorpusName.TREC).records == 240
    assert judges.of(CorpusName.TREC, JudgedBy.KEPT_BACK).records == 24
