import math

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.metrics import metric


def _cider(predictions: list[str], references: list[list[str]]) -> float:
    found = metric("cider").compute(predictions=predictions, references=references)
    assert found is not None
    return found["cider"]


def test_equal_texts_score_ten_where_every_order_has_something_rare() -> None:
    texts = ["w x y z", "p q r s t"]
    assert _cider(texts, [[text] for text in texts]) == pytest.approx(10.0)


def test_an_order_without_n_grams_scores_nothing() -> None:
    assert _cider(["x", "y"], [["x"], ["y"]]) == pytest.approx(10 / 4)


def test_what_every_record_has_weighs_nothing() -> None:
    assert _cider(["the x", "the y"], [["the x"], ["the y"]]) == pytest.approx(2 * 10 / 4)
    assert _cider(["the", "the"], [["the x"], ["the y"]]) == pytest.approx(0.0)


def test_cosine_and_length_penalty_of_a_worked_example() -> None:
    # "x" against "x y": cosine 1 / sqrt(2) of words; 0 pairs against 1, sigma 6.
    first = 10 / 4 / math.sqrt(2) * math.exp(-1 / 72)
    assert _cider(["x", "z"], [["x y"], ["z"]]) == pytest.approx((first + 10 / 4) / 2)


def test_a_word_said_too_often_is_clipped() -> None:
    # "x x" against "x" and "y": min(2, 1) * 1 / (2 * 1) of words; 1 pair against 0.
    first = 10 / 4 / 2 * math.exp(-1 / 72)
    assert _cider(["x x", "y"], [["x"], ["y"]]) == pytest.approx((first + 10 / 4) / 2)


def test_the_score_is_the_mean_over_references() -> None:
    found = _cider(["x", "z"], [["x", "y"], ["z"]])
    assert found == pytest.approx((10 / 4 / 2 + 10 / 4) / 2)


def test_one_record_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="predictions to hold at least two records"):
        _cider(["x"], [["x"]])
