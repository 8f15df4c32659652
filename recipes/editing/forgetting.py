"""Forgetting by negation: the target falls to chance, the controls stay.

Less than chance is not forgetting: a model that is always wrong knows the answer. Hence the
distance from chance is what is reported, and coefficients are chosen for it, on rows kept back.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from dpft.recipes.editing.judging import Judges
from dpft.recipes.tasks.corpora import CorpusName
from dpft.recipes.tasks.corpus import JudgedBy

__all__ = ["CONTROL", "GRID", "chosen", "forgotten", "random_direction"]

GRID = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
"""Coefficients that are tried, fixed beforehand."""
CONTROL = 0.95
"""Least share of its accuracy that the controls keep, on average."""

_Edit = Callable[[float], nn.Module]


@dataclasses.dataclass(frozen=True)
class _Found:
    target: float
    controls: dict[str, float]

    def kept(self, before: "_Found") -> float:
        """Return the mean share of the controls' accuracies before."""
        return statistics.fmean(
            self.controls[task] / before.controls[task] for task in self.controls
        )


@dataclasses.dataclass(frozen=True)
class _Judged:
    judges: Judges
    target: CorpusName
    controls: tuple[CorpusName, ...]

    def by(self, by: JudgedBy, model: nn.Module) -> _Found:
        """Return the accuracies of a model."""
        controls = {
            corpus.value: self.judges.of(corpus, by).accuracy(model) for corpus in self.controls
        }
        return _Found(self.judges.of(self.target, by).accuracy(model), controls)

    def before(self, by: JudgedBy) -> _Found:
        """Return the accuracies of the base model."""
        controls = {corpus.value: self.judges.zero_shot(corpus, by) for corpus in self.controls}
        return _Found(self.judges.zero_shot(self.target, by), controls)

    def grid(self, edit: _Edit) -> list[dict[str, float]]:
        """Return what rows kept back show of every coefficient."""
        before = self.before(JudgedBy.KEPT_BACK)
        rows = []
        for coefficient in GRID:
            found = self.by(JudgedBy.KEPT_BACK, edit(coefficient))
            kept = found.kept(before)
            rows.append({"coefficient": coefficient, "target": found.target, "control": kept})
        return rows


def forgotten(
    judges: Judges, target: CorpusName, controls: Sequence[CorpusName], edit: _Edit
) -> dict[str, Any]:
    """Choose the coefficient of an edit on rows kept back, and measure it on test records.

    Args:
        judges: Judges of all tasks.
        target: Task to forget.
        controls: Tasks to keep.
        edit: Coefficient to edited model; 0 would be the base model.

    Returns:
        The coefficient, accuracy and distance from chance of the target before and after, the
        share of accuracy that the controls keep, and what rows kept back showed.

    Privacy:
        A measurement on public records, never a certificate: what forgets owes what it owed.
    """
    chance = judges.of(target).chance
    judged = _Judged(judges, target, tuple(controls))
    grid = judged.grid(edit)
    coefficient = chosen(grid, chance)
    before = judged.before(JudgedBy.TEST)
    after = judged.by(JudgedBy.TEST, edit(coefficient))
    return {
        "coefficient": coefficient,
        "chance": chance,
        "records": judges.of(target).records,
        "control_records": sum(judges.of(corpus).records for corpus in controls),
        "target_before": before.target,
        "target_after": after.target,
        "from_chance": abs(after.target - chance),
        "control": after.kept(before),
        "controls_after": after.controls,
        "kept_back": grid,
    }


def chosen(grid: Iterable[dict[str, float]], chance: float) -> float:
    """Return the coefficient that brings the target nearest to chance while the controls stay.

    Args:
        grid: `coefficient`, `target` and `control` of each that was tried.
        chance: Accuracy of a guess.

    Returns:
        The coefficient; if none keeps the controls, the one that harms them least.

    Privacy:
        Looks at public records alone.
    """
    tried = list(grid)
    keeping = [row for row in tried if row["control"] >= CONTROL]
    if not keeping:
        return max(tried, key=lambda row: row["control"])["coefficient"]
    return min(keeping, key=lambda row: abs(row["target"] - chance))["coefficient"]


def random_direction(base: nn.Module, edited: nn.Module, seed: int) -> _Edit:
    """Return an edit in a random direction, of the same norm in every tensor as another edit.

    Args:
        base: The base model.
        edited: The other edit, at coefficient 1; its tensors are overwritten.
        seed: Public seed of the direction.

    Returns:
        Coefficient to edited model.

    Privacy:
        Nothing, no data touched: released weights. Through the norms the edit owes what the other
        one owes.

    References:
        Ilharco et al. 2023 (2212.04089), section 3, the baseline "random vector".
    """
    generator = torch.Generator().manual_seed(seed)
    starts = base.state_dict()
    drawn = {}
    for name, value in edited.state_dict().items():
        if name in starts and not torch.equal(value, starts[name]):
            noise = torch.randn(value.shape, generator=generator)
            drawn[name] = noise * ((value - starts[name]).norm() / noise.norm())

    def edit(coefficient: float) -> nn.Module:
        with torch.no_grad():
            for name, value in edited.state_dict().items():
                if name in drawn:
                    value.copy_(starts[name] + coefficient * drawn[name])
        return edited

    return edit
