"""Does what was observed look like what was claimed? Tests with a p-value each.

They see one fault at a time and exactly, where a lower bound on epsilon sees none: noise that is a
fifth too small, or batches that are shuffled instead of sampled.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Finding",
    "distribution",
    "independence",
    "participation",
    "same_law",
    "share",
    "spread",
]

_FEWEST = 8  # values below which no law is tested


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of one test.

    Args:
        statistic: What was measured; its meaning is that of the test.
        expected: What it would be on average if the claim holds.
        p_value: Probability of so large a deviation, in either direction, if the claim holds.

    Privacy:
        Of synthetic records, or of released values.
    """

    statistic: float
    expected: float
    p_value: float

    def passes(self, level: float) -> bool:
        """Return whether the deviation is no surprise at a level in (0, 1); never for NaN."""
        return not math.isnan(self.statistic) and self.p_value >= level


def spread(standardised: "np.ndarray") -> Finding:
    """Test that values have variance 1 around 0, by chi-square.

    Args:
        standardised: Noise divided by the standard deviation that is claimed, any shape.

    Returns:
        The ratio of variances, expected 1.

    Privacy:
        Nothing of its own (`test_noise_that_is_a_fifth_too_small_is_seen`).
    """
    import numpy as np
    from scipy.stats import chi2

    values = np.asarray(standardised, dtype=np.float64).ravel()
    squares = float(np.square(values).sum())
    tail = min(chi2.cdf(squares, values.size), chi2.sf(squares, values.size))
    return Finding(squares / values.size, 1.0, min(1.0, 2 * float(tail)))


def distribution(standardised: "np.ndarray") -> Finding:
    """Test that values are standard normal, by Kolmogorov and Smirnov.

    Args:
        standardised: As for `spread`.

    Returns:
        The largest distance of the distribution functions, expected 0.

    Privacy:
        Nothing of its own (`test_noise_of_another_shape_is_seen`).
    """
    import numpy as np
    from scipy.stats import kstest

    found = kstest(np.asarray(standardised, dtype=np.float64).ravel(), "norm")
    return Finding(float(found.statistic), 0.0, float(found.pvalue))


def same_law(observed: "np.ndarray", simulated: "np.ndarray") -> Finding:
    """Test that two samples come from one distribution, by Kolmogorov and Smirnov.

    Args:
        observed: Values [n].
        simulated: Values of the mechanism that is claimed [m].

    Returns:
        The largest distance of the distribution functions, expected 0.

    Privacy:
        Nothing of its own (`test_scores_of_another_law_are_seen`).
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(observed, simulated)
    return Finding(float(found.statistic), 0.0, float(found.pvalue))


def independence(rows: "np.ndarray") -> Finding:
    """Test that no two rows of noise point the same or the opposite way.

    Args:
        rows: Independent standard normals under the claim [number, length]: one row for each step,
            each rank or each parameter. Length at least 8.

    Returns:
        The largest cosine of any two rows in absolute value, expected 0; its p-value counts all
        pairs. Fewer than two rows, or shorter ones, say nothing: NaN with p-value 1.

    Privacy:
        Nothing of its own. Noise that is used twice has cosine 1
        (`test_noise_that_is_used_twice_is_seen`).
    """
    import numpy as np
    from scipy.stats import t as students

    number, length = rows.shape
    if number < 2 or length < _FEWEST:
        return Finding(math.nan, 0.0, 1.0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        return Finding(math.inf, 0.0, 0.0)  # no noise at all has no direction
    cosines = (rows / norms) @ (rows / norms).T
    largest = min(1.0, float(np.abs(cosines[np.triu_indices(number, k=1)]).max()))
    ratio = largest * math.sqrt((length - 1) / max(1e-300, 1 - largest * largest))
    pairs = number * (number - 1) / 2
    return Finding(largest, 0.0, min(1.0, 2 * pairs * float(students.sf(ratio, length - 1))))


def participation(counts: "np.ndarray", tries: int, rate: float) -> Finding:
    """Test that counts are binomial: how often each record took part, or how many did at a step.

    Args:
        counts: Independent counts under the claim [n].
        tries: Number of tries behind each count.
        rate: Probability of success in each, in (0, 1).

    Returns:
        The variance around the claimed mean, divided by the claimed variance, expected 1. Shuffled
        batches give 0: each record takes part equally often. Its law is a chi-square scaled to the
        mean and variance of the sum of squares; a normal law would have too thin an upper tail.

    Privacy:
        Nothing of its own (`test_shuffled_batches_are_seen`,
        `test_the_tail_of_a_dispersion_is_not_thinner_than_stated`).
    """
    import numpy as np
    from scipy.stats import chi2

    one = rate * (1 - rate)
    variance = tries * one
    scaled = float(np.square(counts - tries * rate).sum()) / variance
    surplus = (1 - 6 * one) / variance  # kurtosis of a binomial beyond that of a normal
    scale = (2 + surplus) / 2
    law = chi2(counts.size / scale)
    tail = min(law.cdf(scaled / scale), law.sf(scaled / scale))
    return Finding(scaled / counts.size, 1.0, min(1.0, 2 * float(tail)))


def share(successes: int, tries: int, probability: float) -> Finding:
    """Test a number of successes in independent tries, by the exact binomial law.

    Args:
        successes: Their number.
        tries: Number of tries.
        probability: The claim, in (0, 1).

    Returns:
        The share of successes, expected the probability.

    Privacy:
        Nothing of its own (`test_a_rate_that_is_ten_times_the_claim_is_seen`).
    """
    from scipy.stats import binomtest

    found = binomtest(successes, tries, probability)
    return Finding(successes / tries, probability, float(found.pvalue))
