"""Batches and lengths that meet a guarantee, and which of them to take. No torch in here.

The noise of a step's mean is noise_multiplier / expected_batch_size. At one epsilon and a fixed
number of steps a larger batch lowers it, by much while the noise multiplier is below about 1 and by
little above; each doubling of the batch doubles the work. So the largest batch comes first, and
work is saved where a doubling brings less than a tenth.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache

from dpft.accounting import PrivacyTarget, calibrate
from dpft.errors import ConfigurationError
from dpft.recipes.planning.demand import Demand

__all__ = [
    "FEWEST_STEPS",
    "LEAST_GAIN",
    "MOST_EPOCHS",
    "Candidate",
    "candidates",
    "chosen",
    "gain",
]

FEWEST_STEPS = 200  # the shortest published run: SST-2 of Li et al. 2022, 3 epochs, batch 1,000
MOST_EPOCHS = 50  # the longest: GLUE of Yu et al. 2022
LEAST_GAIN = 0.1  # ours: less noise than this is not worth twice the work
_SMALLEST_BATCH = 32
_MOST = 6
_SECONDS = 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run that meets the guarantee.

    Args:
        expected_batch_size: Public mean of the Poisson sample.
        steps: Number of optimiser steps.
        noise_multiplier: Noise std divided by the clip norm, the least that meets the target.
        epochs: Expected passes over the data, steps x batch / N.
        hours: Time at the stated speed; None without one.

    Privacy:
        Nothing, no data touched.
    """

    expected_batch_size: int
    steps: int
    noise_multiplier: float
    epochs: float
    hours: float | None

    @property
    def noise_to_batch(self) -> float:
        """Noise std of a step's mean, in units of the clip norm."""
        return self.noise_multiplier / self.expected_batch_size


def candidates(demand: Demand) -> list[Candidate]:
    """Return runs of halving work, the largest batch first.

    Each has at least `FEWEST_STEPS` steps; the first uses the whole time, or `MOST_EPOCHS` epochs
    if that is less.

    Args:
        demand: What is to be met.

    Returns:
        At least one candidate, at most six.

    Raises:
        ConfigurationError: If the time is too short for any.

    Privacy:
        Nothing, no data touched. The noise is calibrated to the target for every candidate
        (`test_every_candidate_meets_the_guarantee`).

    References:
        Li et al. 2022 (2110.05679), section 3: at one epsilon larger batches do better until
        compute binds, and the noise per record of the batch says so beforehand.
    """
    work = _affordable(demand)
    smallest = min(_SMALLEST_BATCH, max(1, demand.num_records // 4))
    if work < smallest * FEWEST_STEPS:
        raise ConfigurationError(_too_short(demand, smallest))
    found: list[Candidate] = []
    for halving in range(_MOST):
        batch = 2 ** int(math.log2(work / 2**halving / FEWEST_STEPS))
        if found and batch < smallest:
            break
        found.append(_candidate(demand, batch, int(work / 2**halving) // batch))
    return found


def chosen(found: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the largest batch whose last doubling was worth its work.

    Args:
        found: What `candidates` returned.

    Returns:
        One of them; the smallest if no doubling was.

    Privacy:
        Nothing, no data touched.
    """
    for position, candidate in enumerate(found[:-1]):
        if gain(found, position) >= LEAST_GAIN:
            return candidate
    return found[-1]


def gain(found: Sequence[Candidate], position: int) -> float:
    """Return by which share a candidate lowers the noise of the one with half its work.

    Args:
        found: What `candidates` returned.
        position: Index of a candidate that is not the last.

    Returns:
        In (-1, 1); 0.5 would be half the noise.

    Privacy:
        Nothing, no data touched.
    """
    return 1 - found[position].noise_to_batch / found[position + 1].noise_to_batch


def _affordable(demand: Demand) -> float:
    """Return how many records a run may compute gradients of, all steps together."""
    most = float(MOST_EPOCHS * demand.num_records)
    if demand.hours is None or demand.records_per_second is None:
        return most
    return min(most, demand.hours * _SECONDS * demand.records_per_second)


@lru_cache(maxsize=64)
def _candidate(demand: Demand, batch: int, steps: int) -> Candidate:
    target = PrivacyTarget(demand.epsilon, demand.chosen_delta, num_records=demand.num_records)
    run = calibrate(target, sample_rate=batch / demand.num_records, steps=steps)
    speed = demand.records_per_second
    return Candidate(
        expected_batch_size=batch,
        steps=steps,
        noise_multiplier=run.noise_multiplier,
        epochs=batch * steps / demand.num_records,
        hours=None if speed is None else batch * steps / speed / _SECONDS,
    )


def _too_short(demand: Demand, smallest: int) -> str:
    if demand.hours is None or demand.records_per_second is None:
        return (
            f"Expected num_records={demand.num_records} >= {FEWEST_STEPS // MOST_EPOCHS}. So few "
            f"cannot make {FEWEST_STEPS} steps in {MOST_EPOCHS} epochs. Collect more."
        )
    needed = smallest * FEWEST_STEPS / demand.records_per_second / _SECONDS
    return (
        f"Expected hours={demand.hours} >= {needed:.2g} at records_per_second="
        f"{demand.records_per_second}. {FEWEST_STEPS} steps of {smallest} records are the shortest "
        "run worth its budget. Give more time, a smaller model or a faster machine."
    )
