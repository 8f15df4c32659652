"""Which experiments there are, in which order, and what each of their runs is given."""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from dpft.adapters import AdapterName
from dpft.recipes.editing.addition import TASKS
from dpft.recipes.editing.objectives import Objective
from dpft.recipes.editing.runs import Schedule, TrainingRun
from dpft.recipes.tasks.corpora import CorpusName

__all__ = ["Cell", "Experiment", "Trial", "cells", "chosen_rate", "schedule_of", "trials"]

_REPETITIONS = range(3)
_FORGOTTEN = (CorpusName.TREC, CorpusName.AG_NEWS)
_FROM, _TO = CorpusName.MEDIA, CorpusName.GOODS
_TEXTS = {CorpusName.MEDIA: CorpusName.MEDIA_TEXTS, CorpusName.GOODS: CorpusName.GOODS_TEXTS}

_RATES = (5e-3, 1e-2, 2e-2)  # that are tried; under noise twice as much, in fewer steps
_TRIED_ON = (CorpusName.TREC, CorpusName.SST2)  # short texts, many and few records


class Experiment(str, Enum):
    """Kind of a cell; `addition_of_lora` is that of ordinary LoRA, whose first factors differ."""

    ADDITION = "addition"
    ADDITION_OF_LORA = "addition_of_lora"
    ANALOGY = "analogy"
    FORGETTING = "forgetting"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One experiment at one epsilon, in one repetition.

    Args:
        experiment: Which.
        epsilon: Target of each of its runs at delta 1e-5; None without privacy.
        repetition: Number of the repetition.
        target: The task to forget, or the domain to move to.

    Privacy:
        Nothing, no data touched.
    """

    experiment: Experiment
    epsilon: float | None
    repetition: int
    target: CorpusName | None = None

    @property
    def name(self) -> str:
        """Name in the results."""
        what = [self.experiment.value, *([self.target.value] if self.target else [])]
        return "-".join([*what, f"eps_{self.epsilon or 'inf'}", f"rep_{self.repetition}"])

    def runs(self) -> list[TrainingRun]:
        """Return the runs that it is made of; for each kind in an order of its own."""
        if self.experiment is Experiment.ADDITION_OF_LORA:
            return [self._run(corpus, adapter=AdapterName.LORA) for corpus in TASKS]
        if self.experiment is Experiment.ADDITION:
            return [self._run(corpus) for corpus in TASKS]
        assert self.target is not None, "given with all other kinds"
        if self.experiment is Experiment.FORGETTING:
            return [self._run(self.target), self._run(self.target, Objective.ASCENT)]
        words = [self._run(_TEXTS[corpus], Objective.WORDS) for corpus in (_FROM, self.target)]
        return [self._run(_FROM), *words, self._run(self.target)]

    def _run(
        self,
        corpus: CorpusName,
        objective: Objective = Objective.LABELS,
        adapter: AdapterName = AdapterName.FFA_LORA,
    ) -> TrainingRun:
        return TrainingRun(
            corpus=corpus,
            objective=objective,
            epsilon=self.epsilon,
            repetition=self.repetition,
            adapter=adapter,
        )


def cells() -> Iterator[Cell]:
    """Yield all cells, the most telling first.

    Privacy:
        Nothing, no data touched.
    """
    yield from _each(Experiment.ADDITION, (None, 8.0))
    yield from _each(Experiment.FORGETTING, (None, 8.0), _FORGOTTEN)
    yield from _each(Experiment.ADDITION, (3.0,))
    yield from _each(Experiment.FORGETTING, (3.0,), _FORGOTTEN)
    yield from _each(Experiment.ANALOGY, (None, 8.0, 3.0), (_TO,))
    yield from _each(Experiment.ADDITION_OF_LORA, (None, 8.0))


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run at a learning rate that may not be the one that is chosen.

    Args:
        run: The run, of the first repetition.
        learning_rate: Of Adam, decaying to 0.

    Privacy:
        Nothing, no data touched.
    """

    run: TrainingRun
    learning_rate: float

    @property
    def folder(self) -> str:
        """Name of the folder that holds the runs of this rate."""
        return f"rate_{self.learning_rate:g}"

    @property
    def name(self) -> str:
        """Name in the results."""
        return f"{self.run.name}-{self.folder}"

    @property
    def schedule(self) -> Schedule:
        """How long the run is."""
        return schedule_of(self.run, self.learning_rate)


def trials() -> Iterator[Trial]:
    """Yield all trials: one rate is chosen without privacy and one at epsilon 8.

    Privacy:
        Nothing, no data touched.
    """
    for epsilon, factor in ((8.0, 2), (None, 1)):
        for corpus in _TRIED_ON:
            for rate in _RATES:
                yield Trial(TrainingRun(corpus=corpus, epsilon=epsilon), factor * rate)


def chosen_rate(found: Sequence[Mapping[str, Any]], *, private: bool) -> float:
    """Return the learning rate whose trials did best on rows kept back, on average over corpora.

    Args:
        found: Finished trials; those of the kind that is asked for are all there.
        private: Whether it is for runs under noise, at whatever epsilon.

    Privacy:
        Rows kept back are public. Epsilon does not cover the trials.
    """
    scores: dict[float, list[float]] = {}
    for trial in found:
        if trial["private"] is private:
            scores.setdefault(trial["learning_rate"], []).append(trial["accuracy"])
    return max(scores, key=lambda rate: statistics.fmean(scores[rate]))


def schedule_of(run: TrainingRun, learning_rate: float) -> Schedule:
    """Return how long a run is: under noise fewer steps with more records, each with less noise.

    The words of texts are learnt in fewer steps: it takes less to know what a domain talks about.

    Args:
        run: The run.
        learning_rate: Of Adam, decaying to 0.

    Privacy:
        Nothing, no data touched.
    """
    batch, steps = (256, 20) if run.epsilon is None else (512, 12)
    if run.objective is Objective.WORDS:
        steps = steps * 2 // 3
    return Schedule(batch=batch, steps=steps, learning_rate=learning_rate)


def _each(
    experiment: Experiment,
    epsilons: tuple[float | None, ...],
    targets: tuple[CorpusName | None, ...] = (None,),
) -> Iterator[Cell]:
    for repetition in _REPETITIONS:
        for epsilon in epsilons:
            for target in targets:
                yield Cell(
                    experiment=experiment, epsilon=epsilon, repetition=repetition, target=target
                )
