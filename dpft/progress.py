"""Where a run stands, in public numbers. No torch in here."""

import dataclasses
import math

from dpft.accounting import DEFAULT_GRID, Grid
from dpft.privacy import PrivacyPlan

__all__ = ["EpsilonCourse", "Progress"]

_MILESTONES = 10  # epsilon is recomputed this often during a run
_QUICK = Grid(value_discretization_interval=1e-3)  # from above, in a tenth of the time


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands after a step, without what it started from; public numbers only.

    Args:
        step: Steps charged, those lost by an interruption included.
        steps: Steps planned.
        spent_epsilon: Upper bound on epsilon so far, never below the true value.
        target_epsilon: Epsilon of the whole plan; inf if the run is not private.

    Privacy:
        A function of the plan and the step number; nothing of the sampled records.
    """

    step: int
    steps: int
    spent_epsilon: float
    target_epsilon: float


class EpsilonCourse:
    """Epsilon after each step, from above: a milestone's value holds for the steps before it.

    Args:
        plan: The plan of the run.
        private: Whether its randomness is secret; else epsilon is infinite.

    Privacy:
        Nothing, no data touched (`test_progress_never_states_less_epsilon_than_was_spent`).
    """

    def __init__(self, plan: PrivacyPlan, *, private: bool) -> None:
        """Keep what is needed; nothing is computed yet."""
        self._plan = plan
        self._private = private and plan.is_private
        self._stride = math.ceil(plan.length.steps / _MILESTONES)
        self._known: dict[int, float] = {}

    def after(self, step: int) -> Progress:
        """Return where the run stands once so many steps are charged."""
        steps = self._plan.length.steps
        milestone = min(steps, math.ceil(step / self._stride) * self._stride)
        return Progress(step, steps, self._at(milestone), self._at(steps))

    def _at(self, step: int) -> float:
        if not self._private:
            return math.inf
        if step not in self._known:
            last = step == self._plan.length.steps
            self._known[step] = self._plan.epsilon(step, grid=DEFAULT_GRID if last else _QUICK)
        return self._known[step]
