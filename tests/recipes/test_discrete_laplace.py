import math
from collections import Counter
from random import Random

import pytest

from dpft.recipes.metrics.discrete_laplace import discrete_laplace

DRAWS = 4000


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 2.5])
def test_frequencies_follow_the_distribution(epsilon: float) -> None:
    randbelow = Random(20261121).randrange
    counts = Counter(discrete_laplace(epsilon, randbelow) for _ in range(DRAWS))
    ratio = math.exp(-epsilon)
    for value in range(-3, 4):
        expected = (1 - ratio) / (1 + ratio) * ratio ** abs(value)
        spread = math.sqrt(expected * (1 - expected) / DRAWS)
        assert abs(counts[value] / DRAWS - expected) < 5 * spread, value


def test_noise_is_an_integer_and_differs_from_call_to_call() -> None:
    drawn = [discrete_laplace(0.01) for _ in range(20)]
    assert all(isinstance(value, int) for value in drawn)
    assert len(set(drawn)) > 10  # fails by chance with probability below 1e-9
