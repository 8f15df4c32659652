r"""The filter that governs a budget whose later plans may depend on earlier outputs.

For a few orders :math:`\alpha_k`, each with a share :math:`\delta_k` of delta, fixed with the
budget :math:`(\varepsilon, \delta)`, a release is let through while some order holds:

.. math:: \sum_i \rho_i(\alpha_k) + c(\alpha_k, \delta_k) \le \varepsilon,
   \qquad \sum_k \delta_k \le \delta,

where :math:`\rho_i(\alpha)` is the Renyi divergence of release i and :math:`c` the conversion to
(epsilon, delta) at that order.

**Why this is** :math:`(\varepsilon, \delta)` **private.** Write down for each order the process
that stops as soon as its own share is used up. By Feldman and Zrnic that one is Renyi private with
the bound :math:`\varepsilon - c(\alpha_k, \delta_k)`, however the mechanisms were chosen, hence
:math:`(\varepsilon, \delta_k)` private. Which orders still hold at the end of the real process can
be read off its transcript, since divergences belong to plans and plans are outputs or follow them.
So the transcripts fall into disjoint events: the first order of the set that still holds at the
end. Divergences only grow, so on the event of an order its own process never stopped early, and
both processes give that event the same probability. The event's inequality has :math:`\delta_k`;
their sum has :math:`\delta`. The theorem is about one order; with one, nothing of delta is shared.

**Which orders.** Orders must not follow from data or outputs. They are a public function of
epsilon and delta, written into the ledger with the budget, and never looked at again. A budget that
full batches use up has its best order at :math:`1 + g`,
:math:`g = \sqrt{L} / (\sqrt{L + \varepsilon} - \sqrt{L})` with :math:`L = \log(1/\delta)`. Sampled
batches of a thousand have theirs near :math:`1 + 0.65 g`, tiny batches at low noise between
:math:`1 + 0.35 g` and :math:`1 + 0.45 g`: measured for epsilon 0.5 to 64. Too high an order is
ruinous for the latter, hence three; a small share of delta costs little, hence most of it to the
first.

What is refunded was reserved and never released. Releases alone enter the sums above, at every
moment they are at most what is charged, and they only grow: the argument holds as it stands.

**What it does not cover.** Epsilon and delta are fixed before the first output. A budget that its
owner changes after outputs were seen guarantees what the weakest one would that it could have been
changed to; so does one first set after runs, which count in full.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.mechanisms import Mechanism

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "FORMER_ORDERS",
    "FilterOrder",
    "checked_orders",
    "filter_epsilon",
    "filter_share",
    "orders_for",
]

# (part of the way from 1 to the best order of full batches, share of delta)
_PLACES = ((0.65, 0.8), (0.45, 0.1), (0.35, 0.1))
_LEAST = 1.05  # below, conversion alone costs more than a hundred
_WHOLE = 10.0  # from here on orders are whole numbers, whose divergences are quick
_MOST = 8192.0
_SLACK = 1e-12  # of a sum of shares in floating point


class FilterOrder(NamedTuple):
    """One order of a filter.

    Args:
        order: Renyi order, > 1.
        share: Its part of delta, in (0, 1].
    """

    order: float
    share: float


# Of budgets that were set before a ledger kept orders: they stay as they were fixed.
FORMER_ORDERS = tuple(
    FilterOrder(order, 1 / 8) for order in (2.4, 3.0, 4.0, 5.5, 8.0, 14.0, 30.0, 100.0)
)


def orders_for(epsilon: float, delta: float) -> tuple[FilterOrder, ...]:
    """Return the orders of a new budget: a public function of nothing but its two numbers.

    Args:
        epsilon: Of the budget, > 0.
        delta: Of the budget, in (0, 1).

    Returns:
        Orders with their shares of delta, which sum to 1.

    Privacy:
        Nothing, no data touched (`test_orders_depend_on_the_budget_alone`).
    """
    length = -math.log(delta)
    gap = epsilon / (math.sqrt(length + epsilon) + math.sqrt(length))  # of the two roots, stable
    return tuple(
        FilterOrder(_rounded(1 + place * math.sqrt(length) / gap), share)
        for place, share in _PLACES
    )


def _rounded(order: float) -> float:
    return min(_MOST, max(_LEAST, round(order, 0 if order >= _WHOLE else 2)))


def checked_orders(found: Sequence[Sequence[float]]) -> tuple[FilterOrder, ...]:
    """Read orders that stand in a ledger.

    Args:
        found: Pairs of order and share of delta.

    Raises:
        ConfigurationError: If an order has no divergence, or more than delta is shared.

    Privacy:
        Nothing, no data touched (`test_orders_that_share_more_than_delta_are_refused`).
    """
    orders = tuple(FilterOrder(float(order), float(share)) for order, share in found)
    sound = all(1 < each.order < math.inf and each.share > 0 for each in orders)
    if not orders or not sound or not math.fsum(each.share for each in orders) <= 1 + _SLACK:
        raise ConfigurationError(
            f"Expected orders={[tuple(each) for each in orders]} to be > 1, with shares of delta "
            "that sum to at most 1. The filter would promise more than it keeps. Restore the "
            "ledger from a copy."
        )
    return orders


def filter_epsilon(
    mechanisms: Sequence[Mechanism | None], delta: float, orders: tuple[FilterOrder, ...]
) -> float:
    """Return the smallest epsilon at which a filter of these orders lets all of these through.

    Args:
        mechanisms: What was released or is reserved, chosen in any way; None has no privacy.
        delta: Of the budget, in (0, 1).
        orders: Of the budget, fixed with it.

    Returns:
        Epsilon >= 0: 0 for nothing, infinite where no order has a bound.

    Privacy:
        Nothing, no data touched. Never below what the accountants state for a fixed set
        (`test_the_filter_is_never_below_the_accountants`); the proof stands in this module.

    References:
        Feldman and Zrnic 2021 (2008.11193), theorem 4.5; conversion by Canonne et al. 2020
        (2004.00010), proposition 12.
    """
    import numpy as np

    if not mechanisms:
        return 0.0
    # unlike max, NumPy hands on what is not a number: it fits no budget
    asked = _spent(mechanisms, orders) + _conversion(delta, orders)
    return float(np.maximum(0.0, asked.min()))


def filter_share(
    mechanisms: Sequence[Mechanism | None],
    budget: tuple[float, float],
    orders: tuple[FilterOrder, ...],
) -> float:
    """Return which part of a budget is used up: what adds up over runs, as epsilon does not.

    Args:
        mechanisms: What was released or is reserved; None has no privacy.
        budget: Its epsilon and delta.
        orders: Of the budget.

    Returns:
        At the order with the most room, its divergence by what it can take; at most 1 exactly
        where `filter_epsilon` is within the budget.

    Privacy:
        Nothing, no data touched (`test_the_share_reaches_one_where_the_budget_ends`).
    """
    import numpy as np

    if not mechanisms:
        return 0.0
    epsilon, delta = budget
    room = epsilon - _conversion(delta, orders)
    spent = _spent(mechanisms, orders)
    parts = np.where(room > 0, spent / np.where(room > 0, room, 1.0), math.inf)
    return float(parts.min())


def _spent(mechanisms: Sequence[Mechanism | None], orders: tuple[FilterOrder, ...]) -> "np.ndarray":
    import numpy as np

    spent = np.zeros(len(orders))
    for mechanism in mechanisms:
        each = math.inf if mechanism is None else _divergences(mechanism, orders)
        spent = spent + each
    return spent


@functools.lru_cache(maxsize=1024)
def _divergences(mechanism: Mechanism, orders: tuple[FilterOrder, ...]) -> "np.ndarray":
    from dpft.accounting.rdp import renyi_divergences

    return renyi_divergences([mechanism], [each.order for each in orders])


def _conversion(delta: float, orders: tuple[FilterOrder, ...]) -> "np.ndarray":
    """Return for every order what its divergence must be raised by to be epsilon at its delta."""
    import numpy as np

    order, share = np.asarray(orders).T
    raised: np.ndarray = np.log1p(-1 / order) - (np.log(delta * share) + np.log(order)) / (
        order - 1
    )
    return raised
