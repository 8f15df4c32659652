"""Draws the figures of a report as SVG: equal facts give equal bytes, and nothing is loaded."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dpft.rendering import rounded_up
from dpft.reporting.courses import Points
from dpft.reporting.facts import Facts

__all__ = ["draw", "inlined"]

_WIDTH, _HEIGHT = 5.4, 3.2  # inches
_FRAME = (0.14, 0.16, 0.83, 0.8)  # parts of width and height: to fit them takes twice the time
_LINE, _LIMIT = "#1f5fa8", "#b3400f"
_TO_THE_LEFT: dict[str, Any] = {"textcoords": "offset points", "ha": "right"}
_PROLOG = re.compile(r"<\?xml.*?<svg", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_STYLE = re.compile(r"\s*<defs>\s*<style[^>]*>.*?</style>\s*</defs>", re.DOTALL)
_COMMENTS = re.compile(r"\s*<!--.*?-->", re.DOTALL)  # matplotlib repeats every text in one
_GROUPS = re.compile(r'<g id="[^"]*">')
_NAMESPACES = re.compile(r' xmlns(:xlink)?="[^"]*"')
_DECIMALS = re.compile(r"(?<=[ \"(L])(-?\d+\.\d{2})\d+")


def draw(facts: Facts) -> dict[str, str]:
    """Draw what there is to draw.

    Args:
        facts: What the report states.

    Returns:
        Files of SVG, by name: `by_step`, `by_delta` and `trade_off`; none without a guarantee.

    Privacy:
        Functions of released values (`test_figures_are_the_same_bytes_each_time`).
    """
    plots: dict[str, tuple[Points, Callable[[Any, Facts], None]]] = {
        "by_step": (facts.by_step, _plot_by_step),
        "by_delta": (facts.by_delta, _plot_by_delta),
        "trade_off": (facts.trade_off, _plot_trade_off),
    }
    return {name: _drawn(name, facts, plot) for name, (points, plot) in plots.items() if points}


def inlined(svg: str, title: str) -> str:
    """Return a figure as it stands inside HTML.

    Args:
        svg: What `draw` returned.
        title: Fixed words for whoever cannot see it.

    Returns:
        The element, without names of schemata, which nothing would load, but which look like
        addresses.

    Privacy:
        As `draw`.
    """
    element = _NAMESPACES.sub("", svg[svg.index("<svg") :]).replace("xlink:href", "href")
    return element.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).strip()


def _drawn(name: str, facts: Facts, plot: Callable[[Any, Facts], None]) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _fixed_style(name):
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        FigureCanvasSVG(figure)
        axes = figure.add_axes(_FRAME)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        plot(axes, facts)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _cleaned(written.getvalue())


@contextmanager
def _fixed_style(name: str) -> Iterator[None]:
    """Draw as matplotlib does without a user's settings; ids of two figures never meet."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.hashsalt": f"dpft {name}",
                "svg.fonttype": "none",
                "font.family": "sans-serif",
                "font.sans-serif": ["DejaVu Sans", "Arial"],  # each text repeats the list
                "font.size": 9,
                "axes.spines.top": False,
                "axes.spines.right": False,
            }
        )
        yield


def _cleaned(svg: str) -> str:
    """Take out what is said twice: dates, comments, digits beyond a hundredth of a point."""
    svg = _PROLOG.sub("<svg", svg, count=1)
    for pattern in (_METADATA, _STYLE, _COMMENTS):
        svg = pattern.sub("", svg)
    return _DECIMALS.sub(r"\1", _GROUPS.sub("<g>", svg))


def _plot_by_step(axes: Any, facts: Facts) -> None:
    steps, spent = zip(*facts.by_step, strict=True)
    axes.plot(steps, spent, color=_LINE, marker="o", markersize=3, label="spent")
    if facts.target is not None:
        asked = f"asked for: {facts.target:g}"
        axes.axhline(facts.target, color=_LIMIT, linestyle="--", label=asked)
        axes.legend(loc="lower right", frameon=False)
    axes.annotate(rounded_up(facts.epsilon), (steps[-1], spent[-1]), (-4, 5), **_TO_THE_LEFT)
    axes.set(xlabel="steps", ylabel=f"epsilon at delta = {facts.delta:.3g}", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.15)


def _plot_by_delta(axes: Any, facts: Facts) -> None:
    deltas, spent = zip(*facts.by_delta, strict=True)
    axes.plot(spent, deltas, color=_LINE, marker="o", markersize=3)
    axes.plot([facts.epsilon], [facts.delta], color=_LIMIT, marker="o", linestyle="none")
    stated = f"epsilon = {rounded_up(facts.epsilon)}"
    axes.annotate(stated, (facts.epsilon, facts.delta), (6, 4), textcoords="offset points")
    axes.set(xlabel="epsilon", ylabel="delta", yscale="log")
    _with_plain_powers(axes.yaxis)
    axes.margins(x=0.15)


def _plot_trade_off(axes: Any, facts: Facts) -> None:
    false_alarms, detected = zip(*facts.trade_off, strict=True)
    axes.fill_between(false_alarms, detected, 1.0, color="#eeeeee", label="excluded")
    axes.plot(false_alarms, detected, color=_LINE, label="best attacker")
    axes.plot(false_alarms, false_alarms, color="#666666", linestyle=":", label="guessing")
    rate, bound = facts.attacks[1]
    axes.plot([rate], [bound.rate], color=_LIMIT, marker="o", linestyle="none")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xscale="log")
    axes.set(yscale="log", xlim=(false_alarms[0], 1), ylim=(false_alarms[0], 1))
    _with_plain_powers(axes.xaxis)
    _with_plain_powers(axes.yaxis)
    axes.legend(loc="lower right", frameon=False)


def _with_plain_powers(axis: Any) -> None:
    """Write 0.001 in place of a formula, which every reader of SVG would set differently."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
