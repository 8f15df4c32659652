"""What the sum of all updates tells of one record, where no single update is seen.

A delta that plain gradient descent published is that sum. Its noise has added up, and how often a
record took part is known from no step: less can be told from it than from the iterates.
"""

import math
from typing import TYPE_CHECKING

from dpft.accounting.rules import delta_problems, require

if TYPE_CHECKING:
    from dpft.accounting.mechanisms import PoissonGaussian

__all__ = ["final_epsilon"]

_INTERVAL = 1e-3  # of the grid of losses; rounding is upwards
_MOST_STEPS = 1_000_000  # how often a record took part is a distribution over so many numbers


def final_epsilon(mechanism: "PoissonGaussian", delta: float) -> float:
    r"""Return epsilon for an attacker who sees the sum of all noisy sums alone.

    Of a record that pushes one coordinate by the clip norm whenever it is sampled, that sum is
    :math:`N(K, T \sigma^2)` with :math:`K \sim Bin(T, q)` if it is in, and
    :math:`N(0, T \sigma^2)` if it is not.

    Args:
        mechanism: What is claimed of every step.
        delta: In (0, 1).

    Returns:
        Epsilon >= 0 of the worse direction, rounded upwards: what canaries on coordinates of their
        own can show at most, however many there are. Not a guarantee: it holds where records push
        the same way at every step, and others may learn more from how the model moved.

    Raises:
        ConfigurationError: If delta is out of range, or the steps are more than a million.

    Privacy:
        Nothing, no data touched (`test_one_step_is_seen_as_well_in_its_sum`,
        `test_a_sum_of_many_steps_tells_less_than_the_steps`).

    References:
        Choquette-Choo et al. 2023 (2310.15526), corollary 4.7, for the losses of such a mixture.
    """
    import numpy as np
    from scipy.stats import binom

    from dpft.accounting.mixture import mixture_distribution

    steps = mechanism.steps
    endless = (
        f"Expected steps={steps} <= {_MOST_STEPS} in an audit. What their sum tells would take "
        "hours to compute. Audit a shorter run."
    )
    require(delta_problems(delta), [] if steps <= _MOST_STEPS else [endless])
    weights = binom.pmf(np.arange(steps + 1), steps, mechanism.sample_rate)
    noise = mechanism.noise_multiplier * math.sqrt(steps)
    losses = mixture_distribution(noise, weights, _INTERVAL)
    return max(0.0, float(losses.get_epsilon_for_delta(delta)))
