"""What was moved from a recorded start adds up from that start alone."""

import pytest
import torch

from dpft.adapters.algebra import Offset, combine
from dpft.adapters.algebra.ia3 import composed
from dpft.errors import ConfigurationError

START = torch.tensor([1.0, -2.0, 0.5])


def test_moves_add_up_from_the_start() -> None:
    terms = [(1.0, Offset(START + 1, START)), (-0.5, Offset(START + 4, START.clone()))]
    made = combine(terms)
    assert isinstance(made, Offset)
    assert made.value.tolist() == (START - 1).tolist()
    assert made.start is START


def test_one_of_weight_one_comes_back_as_it_is() -> None:
    unknown = Offset(START, None)
    assert combine([(1.0, unknown)]) is unknown


def test_an_unknown_or_another_start_is_refused() -> None:
    known, unknown, other = (Offset(START + 1, start) for start in (START, None, START + 1e-6))
    for terms in ([(2.0, unknown)], [(1.0, known), (1.0, unknown)], [(1.0, known), (1.0, other)]):
        with pytest.raises(ConfigurationError, match="start"):
            combine(terms)


def test_factors_multiply_with_inverses_and_powers() -> None:
    ones = torch.ones(3, dtype=torch.float64)
    one = Offset(torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64), ones)
    other = Offset(torch.tensor([3.0, 3.0, 0.25], dtype=torch.float64), ones)
    assert torch.allclose(composed([(1, one), (1, other)]).value, one.value * other.value)
    assert torch.allclose(composed([(1, one), (-1, one)]).value, ones)
    assert torch.allclose(composed([(0.5, other)]).value ** 2, other.value)


@pytest.mark.parametrize("entry", [0.0, -1.0, float("nan")])
def test_a_factor_that_is_not_positive_has_no_power(entry: float) -> None:
    broken = Offset(torch.tensor([1.0, entry]), torch.ones(2))
    with pytest.raises(ConfigurationError, match="inverse"):
        composed([(1, broken), (1, Offset(torch.ones(2), torch.ones(2)))])
