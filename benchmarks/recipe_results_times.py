"""How long the runs of the tables of the recipes take, and which fit into given hours."""

from collections.abc import Iterable

from benchmarks.recipe_results_cells import (
    DECODER_TASKS,
    WORKS,
    Cell,
    Trial,
    schedule_of,
)

__all__ = ["minutes_of", "minutes_of_trial", "split_by_hours"]

# Processor seconds that a run takes beside its records, and tokens a second through LoRA on all
# linear layers. Encoder: two runs on MRPC of 4 and 12 steps with an expected batch of 256 took 86
# and 219 seconds (2026-11-21, one core of an AMD EPYC beside other work).
_ENCODER_START, _DECODER_START = 20.0, 25.0
_ENCODER_SPEED, _DECODER_SPEED = 850.0, 2_000.0
_FORWARD = 3.0  # times the speed of training
_WRITTEN = 150.0  # tokens a second of texts, four beams: 60 tables of 64 tokens took 25 seconds
_LESS_WORK = {"lora": 1.0, "ffa_lora": 0.88, "ia3": 0.76}  # by the same trials as their rates
_TRIAL_RECORDS, _TRIAL_PAIRS, _TRIAL_TABLES = 3_072, 1_500, 60


def minutes_of(cell: Cell) -> float:
    """Return the estimated processor minutes of a cell.

    Args:
        cell: The cell.

    Privacy:
        Nothing, no data touched.
    """
    batch, steps = schedule_of(cell)
    work = WORKS[cell.task]
    trained = batch * steps * work.tokens * _LESS_WORK[cell.adapter]
    return _minutes(cell.task, trained, work.judged * work.judged_tokens)


def minutes_of_trial(trial: Trial) -> float:
    """Return the estimated processor minutes of a trial.

    Args:
        trial: The trial.

    Privacy:
        Nothing, no data touched.
    """
    work = WORKS[trial.task]
    judged = _TRIAL_TABLES if trial.task in DECODER_TASKS else _TRIAL_PAIRS
    return _minutes(trial.task, _TRIAL_RECORDS * work.tokens, judged * work.judged_tokens)


def split_by_hours(cells: Iterable[Cell], hours: float) -> tuple[list[Cell], list[Cell]]:
    """Return the cells that fit, in order, and those from the first that does not.

    Args:
        cells: All cells, the most telling first.
        hours: Processor hours for all of them, whether done or not, trials not counted.

    Privacy:
        Nothing, no data touched.
    """
    fit: list[Cell] = []
    left: list[Cell] = []
    minutes = 0.0
    for cell in cells:
        minutes += minutes_of(cell)
        (left if left or minutes > 60 * hours else fit).append(cell)
    return fit, left


def _minutes(task: str, trained: float, judged: float) -> float:
    if task in DECODER_TASKS:
        return (_DECODER_START + trained / _DECODER_SPEED + judged / _WRITTEN) / 60
    return (_ENCODER_START + trained / _ENCODER_SPEED + judged / _FORWARD / _ENCODER_SPEED) / 60
