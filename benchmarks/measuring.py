"""Taking turns, clocks, and the ratio of two contenders with its uncertainty.

Every round runs every contender once, in random order, and a ratio is formed within the round: a
machine that is busy for a while slows both sides of it. No models in here.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import numpy as np
import torch

__all__ = ["Action", "Clock", "Interval", "Plan", "Sample", "interleaved", "median_ratio"]

_RESAMPLES = 2000
Action = Callable[[], int]
"""Does some work and returns how many units of it, such as steps or records."""


class Clock(str, Enum):
    """Which clock a ratio is formed by: `cpu` adds the time of all threads of the process."""

    WALL = "wall"
    CPU = "cpu"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How often contenders are run.

    Args:
        rounds: Measured rounds, >= 1.
        warm_up: Rounds before them that are not measured, >= 0.
        seed: Of the order within rounds, and of the bootstrap.
        device: Where the work is done; waited for on CUDA.

    Privacy:
        Nothing, no data touched.
    """

    rounds: int = 10
    warm_up: int = 2
    seed: int = 0
    device: str = "cpu"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run of one contender.

    Args:
        wall: Seconds by the wall clock.
        cpu: Seconds of processor time over all threads.
        units: Units of work done, >= 1.

    Privacy:
        Nothing, no data touched.
    """

    wall: float
    cpu: float
    units: int

    def seconds(self, clock: Clock) -> float:
        """Return seconds for one unit of work."""
        return (self.wall if clock is Clock.WALL else self.cpu) / self.units


@dataclasses.dataclass(frozen=True)
class Interval:
    """A median with its 95 % bootstrap interval.

    Args:
        median: Of the values of all rounds.
        low: 2.5 % quantile of the medians of resampled rounds.
        high: 97.5 % quantile.

    Privacy:
        Nothing, no data touched.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Show median and interval."""
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interleaved(actions: Mapping[str, Action], plan: Plan) -> dict[str, list[Sample]]:
    """Run all contenders in turn, in a new random order each round.

    Args:
        actions: What each contender does in one round.
        plan: How often.

    Returns:
        {contender: one sample a round}, rounds in the same order for all.

    Privacy:
        Nothing, no data touched.
    """
    order = np.random.default_rng(plan.seed)
    samples: dict[str, list[Sample]] = {name: [] for name in actions}
    for number in range(-plan.warm_up, plan.rounds):
        for name in order.permutation(sorted(actions)):
            sample = _timed(actions[name], plan.device)
            if number >= 0:
                samples[name].append(sample)
    return samples


def median_ratio(
    above: Sequence[Sample], below: Sequence[Sample], clock: Clock, seed: int = 0
) -> Interval:
    """Return the median over rounds of the ratio within each round.

    Args:
        above: Samples of the numerator, one a round.
        below: Samples of the denominator, of the same rounds.
        clock: Which time.
        seed: Of the bootstrap.

    Returns:
        Ratio of seconds for one unit of work.

    Privacy:
        Nothing, no data touched.
    """
    pairs = zip(above, below, strict=True)
    ratios = np.array([one.seconds(clock) / other.seconds(clock) for one, other in pairs])
    chosen = np.random.default_rng(seed).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[chosen], axis=1), [0.025, 0.975])
    return Interval(float(np.median(ratios)), float(low), float(high))


def _timed(action: Action, device: str) -> Sample:
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    units = action()
    _wait(device)
    return Sample(time.perf_counter() - wall, time.process_time() - cpu, units)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
