"""The figures of several runs: what each spent, and metrics against epsilon."""

import math
from functools import partial
from itertools import groupby
from typing import Any

from dpft.rendering import rounded_up
from dpft.reporting.comparison import Spending
from dpft.reporting.figures import LIMIT, LINE, Drawing, draw
from dpft.reporting.utility import Repeated, Utility

__all__ = ["letter", "spent_figure", "utility_figure"]

_COLOURS = (LINE, "#2a7f4f", "#7b4fa3", "#8a6d1a", "#555555")
_MARKERS = "osD^v"
_MOST_BARS = 20


def spent_figure(name: str, spending: Spending) -> Drawing | None:
    """Draw what each folder spent, and all with a guarantee together.

    Args:
        name: Of the figure.
        spending: Of one data set.

    Returns:
        The figure; None where fewer than two folders have a finite epsilon, or too many for bars.

    Privacy:
        Functions of released values.
    """
    finite = [
        (number, source.claim.epsilon)
        for number, source in enumerate(spending.sources, start=1)
        if math.isfinite(source.claim.epsilon)
    ]
    total = spending.private or spending.together
    if not 2 <= len(finite) <= _MOST_BARS or math.isinf(total.epsilon):
        return None
    words = "What each run spent, and all of them together"
    return draw(name, words, partial(_plot_spent, finite, total.epsilon))


def _plot_spent(spent: list[tuple[int, float]], total: float, axes: Any) -> None:
    numbers, epsilons = zip(*spent, strict=True)
    places = range(len(spent))
    axes.bar(places, epsilons, color=LINE, width=0.6)
    axes.axhline(total, color=LIMIT, linestyle="--", label=f"together: {rounded_up(total)}")
    axes.set_xticks(list(places), [str(number) for number in numbers])
    axes.set(xlabel="number in the table", ylabel="epsilon", ylim=(0, 1.18 * max(total, *epsilons)))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left", frameon=False)


def utility_figure(name: str, utility: Utility) -> Drawing | None:
    """Draw a metric against epsilon, with bars over seeds and a line without privacy.

    Args:
        name: Of the figure.
        utility: The metric.

    Returns:
        The figure; None where there is a single point.

    Privacy:
        Functions of released values.
    """
    if len(utility.points) < 2:
        return None
    return draw(name, "The metric against epsilon", partial(_plot_utility, utility))


def letter(series: int) -> str:
    """Return how a series is called in the legend and in the table.

    Args:
        series: Its number, from 0.

    Privacy:
        Nothing, no data touched.
    """
    return chr(ord("A") + series) if series < 26 else f"series {series + 1}"


def _plot_utility(utility: Utility, axes: Any) -> None:
    drawn = 0
    for series, group in groupby(utility.points, key=lambda point: point.series):
        points = list(group)
        if math.isinf(points[0].epsilon):
            _plot_without_privacy(points, axes)
        else:
            _plot_series(series, points, axes)
            drawn += 1
    if drawn:
        axes.set(xlabel="epsilon")
    else:
        axes.set_xticks([])
    axes.set(ylabel="the metric, mean over seeds")
    axes.margins(x=0.12, y=0.18)
    axes.legend(loc="best", frameon=False)


def _plot_series(series: int, points: list[Repeated], axes: Any) -> None:
    look = series % len(_COLOURS)
    axes.errorbar(
        [point.epsilon for point in points],
        [point.mean for point in points],
        yerr=[point.deviation or 0.0 for point in points],
        color=_COLOURS[look],
        marker=_MARKERS[look],
        markersize=4,
        capsize=3,
        label=letter(series),
    )


def _plot_without_privacy(points: list[Repeated], axes: Any) -> None:
    for point in points:
        line = axes.axhline(point.mean, color=LIMIT, linestyle="--")
        line.set_label(f"{letter(point.series)}, not private")
        if point.deviation:
            ends = (point.mean - point.deviation, point.mean + point.deviation)
            axes.axhspan(*ends, color=LIMIT, alpha=0.12, linewidth=0)
