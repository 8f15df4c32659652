"""One model for several tasks: the sum of their vectors."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from dpft.recipes.editing.charged import charged_for
from dpft.recipes.editing.judging import Judges
from dpft.recipes.tasks.corpora import CorpusName
from dpft.recipes.tasks.corpus import JudgedBy
from dpft.taskvectors import TaskVector

__all__ = ["GRID", "TASKS", "accuracies", "added", "normalised", "own_accuracies"]

# Snippets of film critics, questions to a search engine, wire news, posts of private persons: no
# sentence and, as far as is known, no person is in two of them. SUBJ, MR and SST-5 share sentences
# with SST-2, and the sets of TweetEval people with the posts; hence none of those.
TASKS = (CorpusName.SST2, CorpusName.TREC, CorpusName.AG_NEWS, CorpusName.EMOTION)
GRID = (0.5, 0.7, 1.0)
"""Coefficients of all vectors of a sum, one of which is chosen on rows kept back."""


def added(judges: Judges, vectors: Mapping[CorpusName, TaskVector]) -> dict[str, Any]:
    """Compare the sum of vectors with each of them alone, on its own task.

    Args:
        judges: Judges of all tasks.
        vectors: One of each task.

    Returns:
        The coefficient of all vectors in the sum, chosen on rows kept back; accuracies by task, the
        mean ratio of the sum's to its own, and what the sum owes.

    Privacy:
        Test records and rows kept back are public. The sum owes what its certificate says.
    """
    total = sum(vectors.values(), TaskVector())
    tried = _tried(judges, vectors, total)
    coefficient = max(GRID, key=lambda each: tried[each])
    own = own_accuracies(judges, vectors)
    reached = accuracies(judges, total.apply_to(judges.base, coefficient), vectors)
    return {
        "coefficient": coefficient,
        "kept_back": [{"coefficient": key, "normalised": value} for key, value in tried.items()],
        "records": {corpus.value: judges.of(corpus).records for corpus in vectors},
        "zero_shot": {corpus.value: judges.zero_shot(corpus) for corpus in vectors},
        "own": own,
        "sum": reached,
        "normalised": normalised(reached, own),
        "certificate": charged_for(list(vectors.values())),
    }


def _tried(
    judges: Judges, vectors: Mapping[CorpusName, TaskVector], total: TaskVector
) -> dict[float, float]:
    """Return the normalised accuracy on rows kept back by coefficient."""
    by = JudgedBy.KEPT_BACK
    own = own_accuracies(judges, vectors, by)
    models = {each: total.apply_to(judges.base, each) for each in GRID}
    return {
        each: normalised(accuracies(judges, model, vectors, by), own)
        for each, model in models.items()
    }


def own_accuracies(
    judges: Judges, vectors: Mapping[CorpusName, TaskVector], by: JudgedBy = JudgedBy.TEST
) -> dict[str, float]:
    """Return the accuracy of each vector on its own task, as it was trained.

    Args:
        judges: Judges of all tasks.
        vectors: One of each task.
        by: Which records they judge by.

    Privacy:
        Test records are public.
    """
    return {
        corpus.value: judges.of(corpus, by).accuracy(vector.apply_to(judges.base))
        for corpus, vector in vectors.items()
    }


def accuracies(
    judges: Judges,
    edited: nn.Module,
    corpora: Iterable[CorpusName],
    by: JudgedBy = JudgedBy.TEST,
) -> dict[str, float]:
    """Return the accuracy of one model on every task.

    Args:
        judges: Judges of all tasks.
        edited: The model.
        corpora: The tasks.
        by: Which records they judge by.

    Privacy:
        Test records are public.
    """
    return {corpus.value: judges.of(corpus, by).accuracy(edited) for corpus in corpora}


def normalised(reached: Mapping[str, float], own: Mapping[str, float]) -> float:
    """Return the mean over tasks of what was reached divided by what its own vector reaches.

    Args:
        reached: Accuracy by task.
        own: That of each task's own fine-tuning, > 0.

    Privacy:
        Nothing, no data touched.

    References:
        Ilharco et al. 2023 (2212.04089), section 4.
    """
    return statistics.fmean(reached[task] / own[task] for task in own)
