"""Renyi divergences of running a mechanism a random number of times and releasing the best result.

Papernot and Steinke 2021 (2110.03620). Pure arithmetic on the divergences of one run; the
accountant `rdp` is its only user.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from dpft.accounting.mechanisms import POISSON

if TYPE_CHECKING:
    import numpy as np

__all__ = ["repeated_divergences"]

# The root is found to 1e-12; a smaller stopping probability costs more, so the bound stays one.
_SAFETY_OF_STOPPING = 1e-9
# Below it both means agree to a thousandth of that safety, and the quotient of the one underflows.
_LOGARITHMIC_SHAPE = 1e-14


def repeated_divergences(
    orders: "np.ndarray", divergences: "np.ndarray", mean: float, shape: float | str
) -> "np.ndarray":
    r"""Return the divergences of the best of a random number of runs.

    For a truncated negative binomial number of runs with shape :math:`\eta` and stopping
    probability :math:`\gamma`, order :math:`\lambda` costs :math:`\epsilon(\lambda) + (1 + \eta)
    \min_{\mu} [(1 - 1/\mu) \epsilon(\mu) + \log(1/\gamma) / \mu] + \log(mean) / (\lambda - 1)`.

    Args:
        orders: Renyi orders > 1, ascending.
        divergences: Of one run, from above, at these orders; infinite where there is no bound.
        mean: Mean number of runs, >= 1.
        shape: Shape of the truncated negative binomial, >= 0, or `poisson`.

    Returns:
        Upper bounds at the same orders.

    Privacy:
        Nothing, no data touched (`test_repeat_and_select_agrees_with_dp_accounting`).

    References:
        Papernot and Steinke 2021 (2110.03620), theorem 2, and theorem 6 for Poisson.
    """
    import numpy as np

    if isinstance(shape, str):
        assert shape == POISSON, "the mechanism checks its shape"
        repeated = _poisson(orders, divergences, mean)
    else:
        stopping = _stopping_probability(mean, shape)
        second = np.min((1 - 1 / orders) * divergences - math.log(stopping) / orders)
        repeated = divergences + (1 + shape) * second + math.log(mean) / (orders - 1)
    # A divergence never falls with the order, so that of a higher one bounds that of a lower.
    return np.minimum.accumulate(repeated[::-1])[::-1]


def _poisson(orders: "np.ndarray", divergences: "np.ndarray", mean: float) -> "np.ndarray":
    """Theorem 6: every order uses the delta of one run at epsilon = log(1 + 1 / (order - 1))."""
    import numpy as np
    from dp_accounting.rdp.rdp_privacy_accountant import compute_delta

    deltas = np.array(
        [compute_delta(orders, divergences, math.log1p(1 / (order - 1)))[0] for order in orders]
    )
    return divergences + mean * deltas + math.log(mean) / (orders - 1)


def _stopping_probability(mean: float, shape: float) -> float:
    """Return gamma in (0, 1], slightly from below, for which the distribution has this mean."""
    from scipy.optimize import brentq

    if mean == 1.0:
        return 1.0
    mean_at = _logarithmic_mean if shape < _LOGARITHMIC_SHAPE else _negative_binomial_mean(shape)

    def excess(log_stopping: float) -> float:
        return math.log(mean_at(log_stopping)) - math.log(mean)

    lowest = -math.log(mean) - 2.0
    while excess(lowest) < 0:
        lowest *= 2
    return math.exp(brentq(excess, lowest, -1e-15, xtol=1e-12)) * (1 - _SAFETY_OF_STOPPING)


def _logarithmic_mean(log_stopping: float) -> float:
    return math.expm1(-log_stopping) / -log_stopping


def _negative_binomial_mean(shape: float) -> Callable[[float], float]:
    def mean(log_stopping: float) -> float:
        return shape * math.expm1(-log_stopping) / -math.expm1(shape * log_stopping)

    return mean
