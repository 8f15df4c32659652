"""Exposure: how far a planted secret stands out among all that it could have been."""

import math

from dpft.accounting.profile import detection_bound
from dpft.accounting.rules import count_problems, delta_problems, require

__all__ = ["exposure_chance", "secret_exposure"]


def secret_exposure(rank: int, candidates: int) -> float:
    r"""Return the exposure of a secret, in bits.

    :math:`\log_2 |R| - \log_2 rank`: by how much an attacker who tries the likeliest candidates
    first needs fewer guesses than one who has not seen the model.

    Args:
        rank: Place of the secret among all candidates by the model's loss; 1 is the likeliest.
        candidates: Number |R| of secrets that the format allows, >= rank.

    Returns:
        In [0, log2 |R|]. Of a secret that the model never saw, at least x with probability 2^-x.

    Raises:
        ConfigurationError: If a number is out of range.

    Privacy:
        Nothing of its own (`test_the_likeliest_of_all_has_full_exposure`).

    References:
        Carlini et al. 2019 (1802.08232), definition 3.

    Example:
        >>> secret_exposure(1, 1024)
        10.0
    """
    require(count_problems("rank", rank), count_problems("candidates", candidates))
    if rank > candidates:
        require([f"Expected rank={rank} <= candidates={candidates}. Rank among all of them."])
    return math.log2(candidates) - math.log2(rank)


def exposure_chance(exposure: float, epsilon: float, delta: float, copies: int = 1) -> float:
    r"""Bound the probability of so large an exposure under a guarantee.

    A model that never saw the secret ranks it in the first share f with probability at most f. By
    group privacy one that saw it in k records does with at most :math:`e^{k \epsilon} f +
    \delta \sum_{i<k} e^{i \epsilon}`.

    Args:
        exposure: In bits, >= 0.
        epsilon: Of the guarantee for one record, >= 0.
        delta: Of the guarantee for one record, in (0, 1).
        copies: Number k of records that held the secret, >= 0.

    Returns:
        In [0, 1]. A small one speaks against the guarantee; 1 says nothing.

    Raises:
        ConfigurationError: If a number is out of range.

    Privacy:
        Nothing of its own. Holds for a secret drawn uniformly, apart from everything else
        (`test_a_private_model_exposes_no_more_than_its_guarantee`).

    References:
        Dwork and Roth 2014, theorem 2.2 with lemma 2.2 of Vadhan 2017, for groups.
    """
    require(delta_problems(delta), [] if copies == 0 else count_problems("copies", copies))
    spent = copies * epsilon
    together = min(1.0, delta * sum(_grown(place * epsilon) for place in range(copies)))
    return detection_bound(spent, together, 2.0**-exposure)


def _grown(epsilon: float) -> float:
    return math.exp(epsilon) if epsilon < 700 else math.inf
