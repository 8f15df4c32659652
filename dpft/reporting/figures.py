"""Draws the figures of reports as SVG: equal facts give equal bytes, and nothing is loaded.

No text that somebody gave stands in a figure: numbers and fixed words alone.
"""

import dataclasses
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LIMIT", "LINE", "TO_THE_LEFT", "Drawing", "draw", "inlined", "with_plain_powers"]

LINE, LIMIT = "#1f5fa8", "#b3400f"
TO_THE_LEFT: dict[str, Any] = {"textcoords": "offset points", "ha": "right"}
_WIDTH, _HEIGHT = 5.4, 3.2  # inches
_FRAME = (0.14, 0.16, 0.83, 0.8)  # parts of width and height: to fit them takes twice the time
_PROLOG = re.compile(r"<\?xml.*?<svg", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_STYLE = re.compile(r"\s*<defs>\s*<style[^>]*>.*?</style>\s*</defs>", re.DOTALL)
_COMMENTS = re.compile(r"\s*<!--.*?-->", re.DOTALL)  # matplotlib repeats every text in one
_GROUPS = re.compile(r'<g id="[^"]*">')
_NAMESPACES = re.compile(r' xmlns(:xlink)?="[^"]*"')
_TAGS = re.compile(r"<[^<>]*>")
_DECIMALS = re.compile(r"(?<=[ \"(L])(-?\d+\.\d{2})\d+")


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One figure.

    Args:
        name: Of its file.
        words: Fixed words for whoever cannot see it.
        svg: The figure.

    Privacy:
        Functions of released values.
    """

    name: str
    words: str
    svg: str


def draw(name: str, words: str, plot: Callable[[Any], None]) -> Drawing:
    """Draw one figure.

    Args:
        name: Of its file; ids in figures of two names never meet.
        words: Fixed words for whoever cannot see it.
        plot: Draws into axes of matplotlib.

    Returns:
        The figure.

    Privacy:
        As its values (`test_figures_are_the_same_bytes_each_time`).
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _fixed_style(name):
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        FigureCanvasSVG(figure)
        axes = figure.add_axes(_FRAME)
        axes.set_axisbelow(True)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        plot(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(name, words, _cleaned(written.getvalue()))


def inlined(drawing: Drawing) -> str:
    """Return a figure as it stands inside HTML.

    Args:
        drawing: What `draw` returned.

    Returns:
        The element, without names of schemata, which nothing would load, but which look like
        addresses.

    Privacy:
        As `draw`.
    """
    svg = drawing.svg
    element = _NAMESPACES.sub("", svg[svg.index("<svg") :]).replace("xlink:href", "href")
    return element.replace("<svg", f'<svg role="img" aria-label="{drawing.words}"', 1).strip()


def with_plain_powers(axis: Any) -> None:
    """Write 0.001 in place of a formula, which every reader of SVG would set differently.

    Args:
        axis: Of matplotlib.

    Privacy:
        Nothing, no data touched.
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


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
    # within tags alone: a number that is shown would be cut, and an epsilon understated
    return _TAGS.sub(lambda tag: _DECIMALS.sub(r"\1", tag[0]), _GROUPS.sub("<g>", svg))
