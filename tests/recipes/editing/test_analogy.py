"""Analogy: what is chosen where, what is refused, and what is owed."""

import pytest
import torch

from dpft.errors import BrokenGuaranteeError
from dpft.recipes.editing.analogy import GRID, Analogy, moved
from dpft.recipes.editing.judging import Judges
from dpft.recipes.editing.runs import Place, TrainingRun, vector_of
from dpft.recipes.tasks.corpora import CorpusName
from dpft.taskvectors import TaskVector

NAME = "bert.encoder.layer.2.attention.self.query.weight"


@pytest.fixture
def analogy(place: Place, runs: dict[str, TrainingRun]) -> Analogy:
    names = {"sentiment": "sst2", "here": "trec", "there": "texts"}
    return Analogy(**{name: vector_of(place, runs[run]) for name, run in names.items()})


def test_an_analogy_on_weights_is_that_of_the_vectors(judges: Judges, analogy: Analogy) -> None:
    vector = analogy.sentiment + 0.5 * (analogy.there - analogy.here)
    expected = vector.apply_to(judges.base).state_dict()[NAME]
    made = analogy.applied(judges.base, 0.5).state_dict()[NAME]
    torch.testing.assert_close(made, expected)
    assert not torch.equal(made, judges.base.state_dict()[NAME])


def test_an_analogy_owes_the_texts_whose_labels_it_never_saw(
    judges: Judges, analogy: Analogy
) -> None:
    found = moved(judges, CorpusName.GOODS, analogy)
    assert found["certificate"]["binding"] == 3
    assert found["certificate"]["epsilon"] > found["certificate_of_auxiliary"]["epsilon"]
    assert found["coefficient"] in GRID
    assert found["admitted"] is True


def test_what_the_library_refuses_is_measured_and_said(
    analogy: Analogy, judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> TaskVector:
        raise BrokenGuaranteeError("Expected independent noise.")

    monkeypatch.setattr(TaskVector, "__sub__", refused)
    assert not analogy.is_admitted
    assert analogy.applied(judges.base, 1.0) is not judges.base
