"""Budgets of data sets, and what of a budget is spent."""

import dataclasses
import math
from collections.abc import Sequence
from enum import Enum

from dpft.accounting.accountants import Accountant, epsilon
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import DEFAULT_GRID, Grid
from dpft.accounting.ledger.privacy_filter import (
    FilterOrder,
    checked_orders,
    filter_epsilon,
    filter_share,
    orders_for,
)
from dpft.accounting.mechanisms import Mechanism, unit_of
from dpft.accounting.rules import delta_problems, name_problems, positive_problems, require

__all__ = ["Budget", "Plans", "planned_epsilon"]


class Plans(str, Enum):
    """Whether plans may follow earlier outputs, which decides how they are added up.

    `adaptive` (default): they may; a Renyi filter governs the budget, and steps that were reserved
    but never begun are given back. `fixed`: all were written down before the first output, as the
    owner of the budget declares; they compose by privacy loss distributions, and steps are given
    back only under a public stop rule that was stated when they were reserved.
    """

    ADAPTIVE = "adaptive"
    FIXED = "fixed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent on a data set, by all runs together.

    Args:
        epsilon: > 0.
        delta: In (0, 1).
        plans: How runs are added up.
        orders: Of the filter; unset: those that follow from epsilon and delta. They stay what they
            were when the budget was set.

    Raises:
        ConfigurationError: If a field is out of range.

    Privacy:
        Nothing, no data touched.
    """

    epsilon: float
    delta: float
    plans: Plans = Plans.ADAPTIVE
    orders: tuple[FilterOrder, ...] = ()

    def __post_init__(self) -> None:
        """Check every field, then store floats, so that equal values are written alike."""
        require(
            positive_problems("epsilon", self.epsilon),
            delta_problems(self.delta),
            name_problems("plans", self.plans, [member.value for member in Plans]),
        )
        object.__setattr__(self, "epsilon", float(self.epsilon))
        object.__setattr__(self, "delta", float(self.delta))
        object.__setattr__(self, "plans", Plans(self.plans))
        orders = (
            checked_orders(self.orders) if self.orders else orders_for(self.epsilon, self.delta)
        )
        object.__setattr__(self, "orders", orders)

    def spent(self, mechanisms: Sequence[Mechanism | None], *, grid: Grid = DEFAULT_GRID) -> float:
        """Return the epsilon that mechanisms take of this budget, at its delta.

        Args:
            mechanisms: What is charged; None for a run without privacy.
            grid: How finely to discretise under `fixed`; a coarser one is quicker, never lower.

        Returns:
            Epsilon >= 0, infinite where there is no bound.

        Raises:
            ConfigurationError: If the mechanisms have different neighbouring relations or units.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched.
        """
        known = [mechanism for mechanism in mechanisms if mechanism is not None]
        _refuse_mixed(known)
        if self.plans is Plans.ADAPTIVE:
            return filter_epsilon(mechanisms, self.delta, self.orders)
        return planned_epsilon(mechanisms, self.delta, grid=grid)

    def share(self, mechanisms: Sequence[Mechanism | None]) -> float:
        """Return which part of the budget mechanisms take.

        Args:
            mechanisms: What is charged; None for a run without privacy.

        Returns:
            0 for nothing, 1 for all of it. Under adaptive plans shares of runs add up at one order;
            under fixed plans it is epsilon by that of the budget.

        Raises:
            ConfigurationError: As `spent`.
            AccountantError: As `spent`.

        Privacy:
            Nothing, no data touched.
        """
        if self.plans is Plans.FIXED:
            return self.spent(mechanisms) / self.epsilon
        _refuse_mixed([mechanism for mechanism in mechanisms if mechanism is not None])
        return filter_share(mechanisms, (self.epsilon, self.delta), self.orders)


def planned_epsilon(
    mechanisms: Sequence[Mechanism | None], delta: float, *, grid: Grid = DEFAULT_GRID
) -> float:
    """Return epsilon for this fixed set of mechanisms.

    Args:
        mechanisms: What was charged; None for a run without privacy.
        delta: In (0, 1).
        grid: How finely to discretise.

    Returns:
        By privacy loss distributions; by Renyi divergences where these cannot treat a mechanism.

    Raises:
        ConfigurationError: If no accountant can treat all of them together.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched. Holds if all plans were fixed before the first output.
    """
    known = [mechanism for mechanism in mechanisms if mechanism is not None]
    if len(known) < len(mechanisms):
        return math.inf
    if not known:
        return 0.0
    try:
        return epsilon(known, delta, accountant=Accountant.PLD, grid=grid)
    except ConfigurationError:
        return epsilon(known, delta, accountant=Accountant.RDP)


def _refuse_mixed(mechanisms: Sequence[Mechanism]) -> None:
    for field, found in (
        ("adjacency", {mechanism.adjacency.value for mechanism in mechanisms}),
        ("unit", {unit_of(mechanism).value for mechanism in mechanisms}),
    ):
        if len(found) > 1:
            raise ConfigurationError(
                f"Expected {field}={' and '.join(sorted(found))} to be the same for all runs that "
                "share a budget. A budget holds for one of them. State privacy.num_records as the "
                "earlier runs did, or use another data set."
            )
