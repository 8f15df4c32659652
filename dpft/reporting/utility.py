"""Metrics against epsilon: runs that share all settings but the seed are repetitions of one."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dpft.reporting.merges import Merge
from dpft.reporting.reading import Source
from dpft.reporting.settings import public_settings
from dpft.reporting.sources import Sources

__all__ = ["Repeated", "Utility", "utilities_of"]

_SWEPT = ("epsilon", "noise_multiplier")
_NO_PRIVACY = {"mode": "not private"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeated:
    """Runs that differ in their seed alone.

    Args:
        epsilon: Of each of them; infinite without a guarantee.
        values: The metric, one for each run.
        runs: Names of their folders.
        series: What the runs share that may be joined by a line: settings without the noise.

    Privacy:
        Released values.
    """

    epsilon: float
    values: tuple[float, ...]
    runs: tuple[str, ...]
    series: int

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the runs, None of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utility:
    """One metric of the runs on a data set.

    Args:
        task: Name of the task.
        split: Which records were held out.
        metric: Its name.
        points: By series, then by epsilon.
        series: What tells the series apart, in words; one for each.

    Privacy:
        Released values: each run's metrics are public, or noisy and charged, else it is refused.
    """

    task: str
    split: str
    metric: str
    points: tuple[Repeated, ...]
    series: tuple[str, ...]


def utilities_of(sources: Iterable[Source]) -> tuple[Utility, ...]:
    """Return the metrics of runs, one entry for each task, split and metric.

    Args:
        sources: Runs and merges; those without metrics are left out.

    Privacy:
        Post-processing of released values
        (`test_only_runs_that_differ_in_their_seed_are_repetitions`).
    """
    found: dict[tuple[str, str, str], list[Sources]] = {}
    for source in sources:
        if not isinstance(source, Merge):
            for metric in source.metrics["metrics"]:
                task, split = (str(source.metrics.get(name)) for name in ("task", "split"))
                found.setdefault((task, split, metric), []).append(source)
    return tuple(_utility(key, runs) for key, runs in sorted(found.items()))


def _utility(key: tuple[str, str, str], runs: Sequence[Sources]) -> Utility:
    task, split, metric = key
    series = list(dict.fromkeys(_series(run) for run in runs))
    repeated: dict[tuple[int, float, str], list[Sources]] = {}
    for run in runs:
        name = (series.index(_series(run)), run.claim.epsilon, _settings(run))
        repeated.setdefault(name, []).append(run)
    points = [
        Repeated(
            epsilon=epsilon,
            values=tuple(float(run.metrics["metrics"][metric]) for run in same),
            runs=tuple(run.name for run in same),
            series=number,
        )
        for (number, epsilon, _), same in repeated.items()
    ]
    points.sort(key=lambda point: (point.series, point.epsilon))
    return Utility(
        task=task, split=split, metric=metric, points=tuple(points), series=_described(series)
    )


def _settings(run: Sources) -> str:
    """Return all settings that may change a result, but the seed."""
    return json.dumps(_without(run.settings), sort_keys=True, default=str)


def _series(run: Sources) -> str:
    """Return the same without the noise; without a guarantee there is none to speak of."""
    settings = _without(run.settings)
    if math.isinf(run.claim.epsilon):
        return json.dumps(settings | {"privacy": _NO_PRIVACY}, sort_keys=True, default=str)
    privacy = {key: each for key, each in settings["privacy"].items() if key not in _SWEPT}
    return json.dumps(settings | {"privacy": privacy}, sort_keys=True, default=str)


def _without(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out how a run was watched and stored, the seed, and where its ledger lies."""
    kept = {name: value for name, value in settings.items() if name != "run"}
    kept["privacy"] = {key: each for key, each in settings["privacy"].items() if key != "ledger"}
    return kept


def _described(series: Sequence[str]) -> tuple[str, ...]:
    """Return in which settings each series differs from others of its kind."""
    settings = [json.loads(text) for text in series]
    shown = [dict(public_settings(each)) for each in settings]
    kinds = [each["privacy"] == _NO_PRIVACY for each in settings]
    words = []
    for kind, each in zip(kinds, shown, strict=True):
        alike = [other for what, other in zip(kinds, shown, strict=True) if what is kind]
        differing = _differences(each, alike)
        words.append(f"not private{', ' * bool(differing)}{differing}" if kind else differing)
    return tuple(words)


def _differences(one: Mapping[str, str], alike: Sequence[Mapping[str, str]]) -> str:
    names = sorted({name for each in alike for name in each})
    differing = [name for name in names if len({each.get(name) for each in alike}) > 1]
    return ", ".join(f"{name}={one.get(name, 'unset')}" for name in differing)
