"""Sentiment in a domain whose labels were not used: A's sentiment, moved from A's words to B's."""

import copy
import dataclasses
from typing import Any

import torch
from torch import nn

from dpft.errors import BrokenGuaranteeError
from dpft.recipes.editing.charged import charged_for
from dpft.recipes.editing.judging import Judges
from dpft.recipes.tasks.corpora import CorpusName
from dpft.recipes.tasks.corpus import JudgedBy
from dpft.taskvectors import TaskVector

__all__ = ["GRID", "Analogy", "moved"]

GRID = (0.25, 0.5, 1.0)
"""Coefficients of the difference that are tried, fixed beforehand; 0 is not among them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analogy:
    """sentiment + c (there - here).

    Args:
        sentiment: Vector of the labels of the domain moved from.
        here: Vector of the unlabelled texts of that domain.
        there: Vector of those of the domain moved to.

    Privacy:
        Released weights. Two runs on texts learn much of the same, so that at little noise the
        library takes their vectors for vectors of shared noise and refuses the difference
        (`test_what_the_library_refuses_is_measured_and_said`). It fails closed and cannot know
        better; here the runs are known to have drawn their noise apart, and no artefact is made.
        The measurement is therefore taken on the weights of the three models.

    References:
        Ilharco et al. 2023 (2212.04089), section 5.
    """

    sentiment: TaskVector
    here: TaskVector
    there: TaskVector

    @property
    def is_admitted(self) -> bool:
        """Whether the library makes the vector of the analogy."""
        try:
            made = self.sentiment + self.there - self.here
        except BrokenGuaranteeError:
            return False
        return not made.is_empty

    @torch.no_grad()
    def applied(self, base: nn.Module, coefficient: float) -> nn.Module:
        """Return a copy of the base model with the analogy in its weights."""
        start, made = base.state_dict(), copy.deepcopy(base)
        weights = made.state_dict()
        for vector, factor in self._terms(coefficient):
            for name, value in vector.apply_to(base).state_dict().items():
                if not torch.equal(value, start[name]):
                    weights[name].add_(value - start[name], alpha=factor)
        return made

    def _terms(self, coefficient: float) -> list[tuple[TaskVector, float]]:
        domain = [(self.there, coefficient), (self.here, -coefficient)]
        return [(self.sentiment, 1.0), *domain]


def moved(judges: Judges, target: CorpusName, analogy: Analogy) -> dict[str, Any]:
    """Move a sentiment vector into another domain.

    Args:
        judges: Judges of all corpora.
        target: The domain moved to.
        analogy: Three vectors.

    Returns:
        Accuracy on the target's test records of the base model, of the sentiment vector and of the
        analogy, whose coefficient is chosen on rows kept back; and what both owe.

    Privacy:
        Test records and rows kept back are public. The analogy owes the runs of all three vectors:
        texts are charged although their labels were never looked at.
    """
    base, kept_back = judges.base, judges.of(target, JudgedBy.KEPT_BACK)
    tried = {each: kept_back.accuracy(analogy.applied(base, each)) for each in GRID}
    best = max(GRID, key=lambda coefficient: tried[coefficient])
    judge = judges.of(target)
    return {
        "records": judge.records,
        "coefficient": best,
        "kept_back": [{"coefficient": key, "accuracy": value} for key, value in tried.items()],
        "zero_shot": judges.zero_shot(target),
        "auxiliary": judge.accuracy(analogy.sentiment.apply_to(base)),
        "analogy": judge.accuracy(analogy.applied(base, best)),
        "admitted": analogy.is_admitted,
        "certificate": charged_for([analogy.sentiment, analogy.here, analogy.there]),
        "certificate_of_auxiliary": charged_for([analogy.sentiment]),
    }
