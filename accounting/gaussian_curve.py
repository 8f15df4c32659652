"""The curve of Gaussian differential privacy, in closed form."""

import math

__all__ = ["gaussian_delta"]


def gaussian_delta(mu: float, epsilon: float) -> float:
    r"""Return the delta at an epsilon of the Gaussian with this mu.

    :math:`\Phi(\mu / 2 - \epsilon / \mu) - e^\epsilon \Phi(-\mu / 2 - \epsilon / \mu)`.

    Args:
        mu: Distance of the two means in standard deviations, > 0.
        epsilon: >= 0.

    Returns:
        Delta in [0, 1].

    Privacy:
        Nothing, no data touched (`test_mu_of_a_gaussian_is_its_own`).

    References:
        Dong et al. 2019 (1905.02383), corollary 2.13; Balle and Wang 2018 (1805.06530), theorem 8.
    """
    from scipy.special import log_ndtr, ndtr

    second = math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu))
    return float(ndtr(mu / 2 - epsilon / mu) - second)
