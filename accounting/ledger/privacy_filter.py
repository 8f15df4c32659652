r"""The filter that governs a budget whose later plans may depend on earlier outputs.

For a fixed, public set of K orders :math:`\alpha` and a budget :math:`(\varepsilon, \delta)`, a
release is let through while some order holds:

.. math:: \sum_i \rho_i(\alpha) + c(\alpha, \delta / K) \le \varepsilon,

where :math:`\rho_i(\alpha)` is the Renyi divergence of release i and :math:`c` the conversion to
(epsilon, delta) at that order.

**Why this is** :math:`(\varepsilon, \delta)` **private.** Write down for each order the process
that stops as soon as its own share is used up. By Feldman and Zrnic that one is Renyi private with
the bound :math:`\varepsilon - c(\alpha, \delta/K)`, however the mechanisms were chosen, hence
:math:`(\varepsilon, \delta/K)` private. Which orders still hold at the end of the real process can
be read off its transcript, since divergences belong to plans and plans are outputs or follow them.
So the transcripts fall into K disjoint events: the first order of the set that still holds at the
end. Divergences only grow, so on the event of an order its own process never stopped early, and
both processes give that event the same probability. The event's inequality has :math:`\delta/K`;
the sum over all K has :math:`\delta`.

What is refunded was reserved and never released. Releases alone enter the sums above, at every
moment they are at most what is charged, and they only grow: the argument holds as it stands.

**What it does not cover.** Epsilon and delta are fixed before the first output. A budget that its
owner changes after outputs were seen guarantees what the weakest one would that it could have been
changed to; so does one first set after runs, which count in full.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dpft.accounting.mechanisms import Mechanism

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ORDERS", "filter_epsilon"]

# Every order costs log(K) / (order - 1): few of them, spread over epsilons from 0.1 to 20.
ORDERS = (2.4, 3.0, 4.0, 5.5, 8.0, 14.0, 30.0, 100.0)


def filter_epsilon(mechanisms: Sequence[Mechanism | None], delta: float) -> float:
    """Return the smallest budget under which the filter lets all of these through.

    Args:
        mechanisms: What was released or is reserved, chosen in any way; None has no privacy.
        delta: Of the budget, in (0, 1).

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
    spent = np.zeros(len(ORDERS))
    for mechanism in mechanisms:
        if mechanism is None:
            return math.inf
        spent = spent + _divergences(mechanism)
    # unlike max, NumPy hands on what is not a number: it fits no budget
    return float(np.maximum(0.0, (spent + _conversion(delta / len(ORDERS))).min()))


@functools.lru_cache(maxsize=1024)
def _divergences(mechanism: Mechanism) -> "np.ndarray":
    from dpft.accounting.rdp import renyi_divergences

    return renyi_divergences([mechanism], ORDERS)


def _conversion(delta: float) -> "np.ndarray":
    """Return for every order what its divergence must be raised by to be epsilon at delta."""
    import numpy as np

    orders = np.asarray(ORDERS)
    raised: np.ndarray = np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    return raised
