"""The bridge to opacus: its PRV accountant as an independent cross-check of ours.

The only module that imports opacus (and with it torch). The registry of accountants imports it
when `accountant=prv` is first asked for.
"""

import warnings

import numpy as np
from opacus.accountants import PRVAccountant

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import Grid
from dpft.accounting.mechanisms import Adjacency, PoissonGaussian
from dpft.accounting.registry import register

__all__ = ["prv_epsilon"]


@register("prv")
def prv_epsilon(mechanisms: tuple[PoissonGaussian, ...], delta: float, grid: Grid) -> float:
    """Bound epsilon by opacus' privacy random variables.

    Args:
        mechanisms: At least one; all share one adjacency, which is not replace-one.
        delta: In (0, 1).
        grid: Its `epsilon_error` is half the width of the interval that encloses epsilon.

    Returns:
        The upper end of the interval.

    Raises:
        ConfigurationError: Under replace-one, for which opacus has no bound.

    Privacy:
        Nothing, no data touched (`test_prv_agrees_with_the_published_anchor`).

    References:
        Gopi et al. 2021 (2106.02848), algorithm 1.
    """
    if mechanisms[0].adjacency is Adjacency.REPLACE_ONE:
        raise ConfigurationError(
            "Expected accountant=prv with adjacency=add_or_remove or zero_out, not replace_one. "
            "Opacus bounds adding and removing records alone. Set accountant to pld."
        )
    accountant = PRVAccountant()
    accountant.history = [
        (mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps)
        for mechanism in mechanisms
    ]
    # With full batches opacus takes log(1 - sample_rate) = -inf, which is what it should be.
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        # The width of its grid comes from Renyi orders that are few; that costs time, not truth.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return float(accountant.get_epsilon(delta, eps_error=grid.epsilon_error))
