"""A search over integers for the outermost one whose cost still meets a target.

The cost is monotone and nearly a power of the integer, so the search interpolates in logarithms.
It knows nothing of privacy; calibration is its only user.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from functools import cache

__all__ = [
    "Found",
    "Range",
    "Search",
]

_INTERPOLATIONS = 12  # then bisection, which always ends
_LARGEST_LEAP = 16
_SMALLEST_RATIO = 1e-3  # a cost may be zero, its logarithm not


@dataclasses.dataclass(frozen=True)
class Range:
    """The integers searched, and where to start.

    Args:
        first: Smallest, >= 1.
        start: In [first, last].
        last: Largest.

    Privacy:
        Nothing, no data touched.
    """

    first: int
    start: int
    last: int

    def clamp(self, point: int) -> int:
        """Return the nearest integer of the range."""
        return min(max(point, self.first), self.last)


@dataclasses.dataclass(frozen=True)
class Found:
    """The outermost point that meets the target.

    Args:
        point: An integer of the range.
        slope: What the next point costs more; infinite if there is none.

    Privacy:
        Nothing, no data touched.
    """

    point: int
    slope: float


@dataclasses.dataclass(frozen=True)
class _End:
    """One end of a bracket: a point and the logarithm of its cost over the target."""

    point: int
    excess: float

    @property
    def meets(self) -> bool:
        return self.excess <= 0


@dataclasses.dataclass(frozen=True)
class Search:
    """The search for the outermost point that meets a target.

    Args:
        target: Largest cost that meets it, > 0.
        points: The integers searched.
        safer: +1 if the cost falls with the integer, -1 if it grows.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> Search(10.0, Range(1, 4, 100), safer=-1).outermost(lambda point: point**0.5)
        Found(point=100, slope=inf)
    """

    target: float
    points: Range
    safer: int

    def outermost(self, measure: Callable[[int], float]) -> Found | None:
        """Find the last point that meets the target.

        Args:
            measure: The cost of a point, >= 0 and monotone.

        Returns:
            The point, or None if none meets the target.

        Privacy:
            Nothing, no data touched.
        """
        cost = cache(measure)

        def end(point: int) -> _End:
            return _End(point, math.log(max(cost(point) / self.target, _SMALLEST_RATIO)))

        good, bad = self._bracket(end)
        if good is None:
            return None
        if bad is None:
            return Found(good.point, math.inf)
        good, bad = _narrowed(good, bad, end)
        return Found(good.point, cost(bad.point) - cost(good.point))

    def confirmed(self, found: Found, measure: Callable[[int], float]) -> int | None:
        """Move a point found with a coarse measure to where a finer one puts it.

        Args:
            found: What `outermost` returned with a measure that overstates the cost a little.
            measure: The finer measure.

        Returns:
            A point that meets the target by the finer measure, or None if none does.

        Privacy:
            Nothing, no data touched.
        """
        cost = cache(measure)
        point = found.point
        room = self.target - cost(point)
        if room > 0 and found.slope > 0:
            point = self.points.clamp(point - self.safer * int(room / found.slope))
        while cost(point) > self.target:
            point += self.safer
            if point != self.points.clamp(point):
                return None
        return point

    def _bracket(self, end: Callable[[int], _End]) -> tuple[_End | None, _End | None]:
        """Return a point that meets the target and one that does not, or None for either."""
        here = end(self.points.start)
        while True:
            following = self.points.clamp(self._following(here))
            if following == here.point:
                return (here, None) if here.meets else (None, here)
            there = end(following)
            if there.meets != here.meets:
                return (here, there) if here.meets else (there, here)
            here = there

    def _following(self, here: _End) -> int:
        """Leap if far beyond the target; towards less safe points double, they may be slow."""
        factor = 2 if here.meets else min(max(2, int(math.exp(here.excess))), _LARGEST_LEAP)
        grows = (self.safer > 0) != here.meets
        return here.point * factor if grows else here.point // factor


def _narrowed(good: _End, bad: _End, end: Callable[[int], _End]) -> tuple[_End, _End]:
    """Narrow a bracket to two neighbours: the Illinois rule in logarithms, then bisection.

    Illinois: when the same end moves twice, the value of the other is halved, so that both move.
    """
    retained = 1.0  # weight of the end that did not move last
    moved_good: bool | None = None
    for probes in itertools.count(1):
        if abs(good.point - bad.point) <= 1:
            break
        share = 0.5
        if probes <= _INTERPOLATIONS:
            weight_good, weight_bad = (1.0, retained) if moved_good else (retained, 1.0)
            share = _root(good.excess * weight_good, bad.excess * weight_bad)
        probe = end(_between(good.point, bad.point, share))
        retained = retained / 2 if probe.meets is moved_good else 1.0
        moved_good = probe.meets
        good, bad = (probe, bad) if probe.meets else (good, probe)
    return good, bad


def _root(below: float, above: float) -> float:
    """Return where a line from `below` <= 0 at 0 to `above` > 0 at 1 is zero."""
    return below / (below - above)


def _between(one: int, other: int, share: float) -> int:
    """Return the integer at a share of the way in logarithms, strictly between the two."""
    low, high = sorted((one, other))
    guess = round(math.exp((1 - share) * math.log(one) + share * math.log(other)))
    return min(max(guess, low + 1), high - 1)
