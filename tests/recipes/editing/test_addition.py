"""Addition: one model for all tasks, and what it owes."""

import pytest

from dpft.recipes.editing.addition import GRID, TASKS, added, normalised
from dpft.recipes.editing.charged import charged_for
from dpft.recipes.editing.judging import Judges
from dpft.recipes.editing.runs import Place, TrainingRun, vector_of
from dpft.recipes.tasks.corpora import CorpusName
from dpft.taskvectors import TaskVector


@pytest.fixture
def vectors(place: Place, runs: dict[str, TrainingRun]) -> dict[CorpusName, TaskVector]:
    return {run.corpus: vector_of(place, run) for run in (runs["trec"], runs["sst2"])}


def test_the_tasks_share_no_source() -> None:
    assert len(set(TASKS)) == 4
    assert not {CorpusName.MEDIA, CorpusName.GOODS} & set(TASKS)


def test_one_vector_alone_is_judged_as_it_is(
    judges: Judges, vectors: dict[CorpusName, TaskVector]
) -> None:
    single = {CorpusName.TREC: vectors[CorpusName.TREC]}
    found = added(judges, single)
    assert found["coefficient"] in GRID
    reached = vectors[CorpusName.TREC].apply_to(judges.base, found["coefficient"])
    assert found["sum"]["trec"] == judges.of(CorpusName.TREC).accuracy(reached)
    assert found["normalised"] == found["sum"]["trec"] / found["own"]["trec"]


def test_the_coefficient_is_the_best_of_those_on_rows_kept_back(
    judges: Judges, vectors: dict[CorpusName, TaskVector]
) -> None:
    found = added(judges, vectors)
    scores = {row["coefficient"]: row["normalised"] for row in found["kept_back"]}
    assert set(scores) == set(GRID)
    assert scores[found["coefficient"]] == max(scores.values())


def test_a_sum_owes_the_runs_of_all(judges: Judges, vectors: dict[CorpusName, TaskVector]) -> None:
    owed = added(judges, vectors)["certificate"]
    assert owed["binding"] == 2
    assert owed["epsilon"] > owed["largest"] > 0
    assert len(owed["runs"]) == 2


def test_negation_costs_what_the_vector_costs(vectors: dict[CorpusName, TaskVector]) -> None:
    vector = vectors[CorpusName.TREC]
    assert charged_for([-0.3 * vector]) == charged_for([vector])


def test_normalised_accuracy_is_the_mean_of_ratios() -> None:
    assert normalised({"a": 0.4, "b": 0.9}, {"a": 0.8, "b": 0.9}) == pytest.approx(0.75)
