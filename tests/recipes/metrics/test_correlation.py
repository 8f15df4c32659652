import math

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.metrics import metric


def test_pearson_follows_its_formula() -> None:
    found = metric("pearson").compute(predictions=[1.0, 2.0, 4.0], references=[1.0, 3.0, 2.0])
    # Deviations (-4, -1, 5) / 3 and (-1, 1, 0).
    assert found == pytest.approx({"pearson": 1.0 / math.sqrt(42 / 9 * 2)})


def test_spearman_gives_ties_their_mean_rank() -> None:
    found = metric("spearmanr").compute(predictions=[1.0, 1.0, 9.0], references=[1.0, 2.0, 3.0])
    # Ranks (1.5, 1.5, 3) and (1, 2, 3).
    assert found == pytest.approx({"spearmanr": 1.5 / math.sqrt(1.5 * 2)})


@pytest.mark.parametrize("name", ["pearson", "spearmanr"])
def test_the_correlation_of_a_constant_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="predictions to hold at least two different"):
        metric(name).compute(predictions=[1.0, 1.0], references=[1.0, 2.0])
