"""Which runs the tables of the recipes are made of, in which order, and what each is given.

Batches and steps follow from a rule. The work of a task, its passes over the data, is fixed by what
a processor can do in minutes. Without privacy it is done in small batches. Under noise it is done
in few steps of large batches, the fewer the smaller epsilon: at equal work, half the steps have
less than 0.6 of the noise for each record of the batch. A learning rate comes from trials of
another length and is scaled by the root of the ratio of steps, as the random walk of noise.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = [
    "ADAPTERS",
    "DECODER_TASKS",
    "ENCODER_TASKS",
    "WORKS",
    "Cell",
    "Choice",
    "Head",
    "Place",
    "Trial",
    "Work",
    "cells",
    "chosen",
    "head_of",
    "overrides_of",
    "rate_of",
    "schedule_of",
    "trial_overrides",
    "trials",
]

ADAPTERS = ("lora", "ffa_lora", "ia3")
"""LoRA, and the two others that did best in the trials of docs/results/adapter_trials.json."""
ENCODER_TASKS = ("qqp", "mnli", "cola", "stsb", "qnli", "mrpc", "rte")
DECODER_TASKS = ("e2e", "dart")

_SMALL = ("qnli", "mrpc", "rte")  # too few records for epsilon 1: last of LoRA's
# Of SST-2 at epsilon 8 for 20 steps, from the same trials; LoRA's stands for the scale of a task.
_SST2_RATES = {"lora": 1e-2, "ffa_lora": 2e-2, "ia3": 5e-2}
_STEPS = {8.0: 30, 3.0: 20, 1.0: 20}
_SMALL_BATCH, _SMALL_TEXT_BATCH = 64, 128  # without privacy
_TRIAL_BATCH, _TRIAL_STEPS, _TRIAL_SMALL_STEPS = 192, 16, 48
# Noise for each record of the batch in the tables at epsilon 8, rounded up: 0.5297 / 783 on QQP,
# 0.4598 / 701 on E2E, by PLD.
_TRIAL_NOISE = {"qqp": 6.8e-4, "e2e": 6.6e-4}
_PRIVATE_RATES, _PLAIN_RATES = (4e-3, 1e-2), (1e-3, 4e-3)
_TEXT_RATES, _PLAIN_TEXT_RATES = (5e-3, 1.5e-2), (1e-3, 4e-3)
_UNCHANGED = 1e-12  # learning rate of a run of one step that leaves the decoder as it was
_DECODER_LAYERS = "adapter.target_modules=[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]"
_ENCODER_LAYERS = "adapter.target_modules=[query,key,value,dense]"
_JUDGED, _JUDGED_IN_TRIALS, _BEAMS = 200, 60, 4
_LONGEST = 192  # tokens: the 256 positions of the decoder less 64 that are written


class Head(str, Enum):
    """What makes a label of the encoder's states."""

    FROZEN = "frozen"  # drawn at random
    POOLER = "pooler"  # drawn at random on the encoder's own pooler, trained
    TRAINED = "trained"  # drawn at random, on the mean of the states


_HEADS: dict[Head, tuple[str, ...]] = {
    Head.FROZEN: ("architecture.train_head=false",),
    Head.POOLER: ("architecture.pooling=head",),
    Head.TRAINED: (),
}


@dataclasses.dataclass(frozen=True)
class Work:
    """Public numbers of a task.

    Args:
        records: Number of training records, rounded.
        tokens: Mean tokens of one.
        passes: Passes over the data in one run.
        judged: Number of held-out records.
        judged_tokens: Mean tokens of one.

    Privacy:
        Nothing, no data touched: the benchmarks are public.
    """

    records: int
    tokens: float
    passes: float
    judged: int
    judged_tokens: float


WORKS = {
    "cola": Work(8_551, 11.3, 3, 1_043, 11.9),
    "dart": Work(51_635, 93.4, 0.3, _JUDGED, 40),
    "e2e": Work(42_061, 72.3, 0.5, _JUDGED, 40),
    "mnli": Work(15_600, 39.7, 1, 2_029, 39.7),
    "mrpc": Work(3_668, 54.3, 2, 408, 54.2),
    "qnli": Work(4_319, 51.2, 2, 1_144, 51.2),
    "qqp": Work(23_496, 31.9, 1, 4_000, 31.4),
    "rte": Work(2_490, 70.1, 2, 277, 66.8),
    "stsb": Work(5_749, 28.0, 3, 1_500, 31.7),
}
"""Mean tokens are of 400 records drawn from each file; of a table, those that are written."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where models and records are.

    Args:
        assets: The assets folder.
        records: Where parts of public files are written.
        decoder: Folder of the decoder, or its name.

    Privacy:
        Nothing, no data touched.
    """

    assets: Path
    records: Path
    decoder: str = "embedded_decoder"

    @property
    def encoder(self) -> Path:
        """Folder of the MiniLM encoder."""
        return self.assets / "models" / "minilm-l6"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the tables.

    Args:
        task: Name of the task.
        adapter: Name of the method.
        epsilon: Target at delta 1e-5; None without privacy.
        untrained: Whether the decoder is judged as it is.

    Privacy:
        Nothing, no data touched.
    """

    task: str
    adapter: str = "lora"
    epsilon: float | None
    untrained: bool = False

    @property
    def name(self) -> str:
        """Name in the results and of the run folder."""
        what = "untrained" if self.untrained else f"eps_{self.epsilon or 'inf'}"
        return f"{self.task}-{self.adapter}-{what}"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run at a learning rate or with a head that may not be the one that is chosen.

    Args:
        task: "qqp" for the encoder, "e2e" for the decoder.
        private: Whether with the noise of epsilon 8 in the tables.
        learning_rate: Of Adam.
        head: The encoder's.

    Privacy:
        Nothing, no data touched.
    """

    task: str
    private: bool
    learning_rate: float
    head: Head = Head.TRAINED

    @property
    def name(self) -> str:
        """Name in the results and of the run folder."""
        kind = "private" if self.private else "plain"
        return f"trial-{self.task}-{kind}-{self.head.value}-{self.learning_rate:g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What the trials of an encoder or a decoder led to.

    Args:
        head: The encoder's head.
        private_rate: LoRA's learning rate under noise, for the trials' steps.
        plain_rate: The same without privacy.

    Privacy:
        Nothing, no data touched.
    """

    head: Head = Head.TRAINED
    private_rate: float
    plain_rate: float


def cells() -> Iterator[Cell]:
    """Yield all cells, the most telling first.

    Privacy:
        Nothing, no data touched.
    """
    yield from _texts("e2e")
    yield from _labels("lora", (8.0, None), ENCODER_TASKS)
    yield from _texts("dart")
    yield from _labels("lora", (3.0,), ENCODER_TASKS)
    yield from _labels("lora", (1.0,), [task for task in ENCODER_TASKS if task not in _SMALL])
    for task in ENCODER_TASKS:
        for adapter in ADAPTERS[1:]:
            yield Cell(task=task, adapter=adapter, epsilon=8.0)
    yield from _labels("lora", (1.0,), _SMALL)
    for adapter in ADAPTERS[1:]:
        yield from _labels(adapter, (None, 3.0, 1.0), ENCODER_TASKS)


def trials() -> Iterator[Trial]:
    """Yield all trials: heads and rates of LoRA on QQP, rates of LoRA on E2E.

    Privacy:
        Nothing, no data touched.
    """
    for rate in _TEXT_RATES:
        yield Trial("e2e", private=True, learning_rate=rate)
    for rate in _PLAIN_TEXT_RATES:
        yield Trial("e2e", private=False, learning_rate=rate)
    for head in (Head.TRAINED, Head.FROZEN, Head.POOLER):
        for rate in _PRIVATE_RATES:
            yield Trial("qqp", private=True, learning_rate=rate, head=head)
    for rate in _PLAIN_RATES:
        yield Trial("qqp", private=False, learning_rate=rate)


def chosen(task: str, found: Sequence[Mapping[str, Any]]) -> Choice | None:
    """Return what the finished trials lead to, None while some are missing.

    Args:
        task: "qqp" for the encoder, "e2e" for the decoder.
        found: Finished trials, each with its name and score.

    Privacy:
        Trials are judged by records of public training files. Epsilon does not cover them.
    """
    scores = {trial["name"]: trial["score"] for trial in found}
    mine = [trial for trial in trials() if trial.task == task]
    if any(trial.name not in scores for trial in mine):
        return None
    best, plain = (
        max((t for t in mine if t.private is private), key=lambda trial: scores[trial.name])
        for private in (True, False)
    )
    return Choice(head=best.head, private_rate=best.learning_rate, plain_rate=plain.learning_rate)


def schedule_of(cell: Cell) -> tuple[int, int]:
    """Return expected batch and steps.

    Args:
        cell: The cell.

    Privacy:
        Nothing, no data touched.
    """
    work = WORKS[cell.task]
    amount = work.records * work.passes
    if cell.untrained:
        return 1, 1
    if cell.epsilon is None:
        batch = _SMALL_TEXT_BATCH if cell.task in DECODER_TASKS else _SMALL_BATCH
        return batch, math.ceil(amount / batch)
    steps = _STEPS[cell.epsilon]
    return round(amount / steps), steps


def head_of(task: str, choice: Choice) -> Head:
    """Return the chosen head; one for a number is never frozen, for the sake of its scale.

    Args:
        task: Name of the task.
        choice: What the trials of the encoder led to.

    Privacy:
        Nothing, no data touched.
    """
    return Head.TRAINED if task == "stsb" and choice.head is Head.FROZEN else choice.head


def rate_of(cell: Cell, choice: Choice) -> float:
    """Return the learning rate for the steps of a cell.

    Other adapters than LoRA keep the ratio that their rates had in the trials on SST-2.

    Args:
        cell: The cell.
        choice: What the trials of its model led to.

    Privacy:
        Nothing, no data touched.
    """
    if cell.untrained:
        return _UNCHANGED
    is_plain = cell.epsilon is None
    tried = choice.plain_rate if is_plain else choice.private_rate
    trial_steps = _TRIAL_SMALL_STEPS if is_plain else _TRIAL_STEPS
    like = _SST2_RATES[cell.adapter] / _SST2_RATES["lora"]
    scaled = tried * like * (trial_steps / schedule_of(cell)[1]) ** 0.5
    return float(f"{scaled:.2g}")


def overrides_of(cell: Cell, choice: Choice, place: Place) -> list[str]:
    """Return what the command line is given for a cell.

    Args:
        cell: The cell.
        choice: What the trials of its model led to.
        place: Where models and records are.

    Privacy:
        Nothing, no data touched.
    """
    batch, steps = schedule_of(cell)
    guarantee = [f"privacy.epsilon={cell.epsilon:g}"] if cell.epsilon else _not_private()
    head = _HEADS[head_of(cell.task, choice)]
    return [
        f"task={cell.task}",
        f"adapter={cell.adapter}",
        *guarantee,  # a choice of a group stands before its fields
        "privacy.delta=1e-5",
        *_length(batch, steps),
        f"optim.learning_rate={rate_of(cell, choice):g}",
        *(_decoder(place, _JUDGED) if cell.task in DECODER_TASKS else [*_encoder(place), *head]),
        *_layers(cell.task, cell.adapter),
        *(_own_copy("qqp", place.records / "qqp") if cell.task == "qqp" else []),
    ]


def trial_overrides(trial: Trial, place: Place) -> list[str]:
    """Return what the command line is given for a trial.

    Args:
        trial: The trial.
        place: Where models and records are.

    Privacy:
        Nothing, no data touched.
    """
    batch, steps = _TRIAL_BATCH, _TRIAL_STEPS
    guarantee = [
        "privacy.epsilon=null",
        f"privacy.noise_multiplier={_TRIAL_NOISE[trial.task] * _TRIAL_BATCH:g}",
    ]
    if not trial.private:
        batch, steps = _SMALL_BATCH, _TRIAL_SMALL_STEPS
        guarantee = _not_private()
    is_text = trial.task in DECODER_TASKS
    model = _decoder(place, _JUDGED_IN_TRIALS) if is_text else _encoder(place)
    return [
        f"task={trial.task}",
        "adapter=lora",
        *guarantee,
        "privacy.delta=1e-5",
        *_length(batch, steps),
        f"optim.learning_rate={trial.learning_rate:g}",
        *model,
        *_HEADS[trial.head],
        *_layers(trial.task, "lora"),
        *_own_copy(trial.task, place.records / f"{trial.task}_trials"),
    ]


def _own_copy(task: str, folder: Path) -> list[str]:
    """Return what is said of a part of a benchmark: it is public, and not the whole."""
    return [f"task.path={folder}", "privacy.evaluation=public", f"privacy.dataset_id={task}_part"]


def _texts(task: str) -> Iterator[Cell]:
    yield Cell(task=task, epsilon=None, untrained=True)
    for epsilon in (8.0, None, 3.0):
        yield Cell(task=task, epsilon=epsilon)


def _labels(adapter: str, epsilons: Sequence[float | None], tasks: Sequence[str]) -> Iterator[Cell]:
    for epsilon in epsilons:
        for task in tasks:
            yield Cell(task=task, adapter=adapter, epsilon=epsilon)


def _not_private() -> list[str]:
    return ["privacy=not_private", "privacy.epsilon=null"]


def _length(batch: int, steps: int) -> list[str]:
    return [
        f"privacy.expected_batch_size={batch}",
        "privacy.epochs=null",
        f"privacy.steps={steps}",
    ]


def _encoder(place: Place) -> list[str]:
    return [f"model={place.encoder}"]


def _decoder(place: Place, judged: int) -> list[str]:
    return [
        f"model={place.decoder}",
        "optim.schedule=linear",
        f"architecture.max_length={_LONGEST}",
        "task.truncate=true",
        f"task.judged={judged}",
        f"generation.beams={_BEAMS}",
    ]


def _layers(task: str, adapter: str) -> list[str]:
    if adapter == "ia3":
        return []
    return [_DECODER_LAYERS if task in DECODER_TASKS else _ENCODER_LAYERS]
