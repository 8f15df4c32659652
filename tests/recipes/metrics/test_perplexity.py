import math

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.metrics import metric


def test_a_uniform_guess_has_the_perplexity_of_its_choices() -> None:
    losses = [tokens * math.log(50) for tokens in (3, 1, 7)]
    found = metric("perplexity").compute(predictions=losses, references=[3, 1, 7])
    assert found == pytest.approx({"perplexity": 50.0})


def test_tokens_weigh_alike_and_records_do_not() -> None:
    found = metric("perplexity").compute(
        predictions=[3 * math.log(2), 1 * math.log(8)], references=[3, 1]
    )
    assert found == pytest.approx({"perplexity": 2**1.5})


def test_a_loss_beyond_floats_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mean loss of at most 700"):
        metric("perplexity").compute(predictions=[1e4], references=[1])
