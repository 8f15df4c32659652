import math

import pytest
from sklearn.metrics import accuracy_score

from dpft.errors import ConfigurationError
from dpft.recipes.metrics import metric

_PREDICTIONS = [1, 1, 1, 0, 0, 0, 0]
_REFERENCES = [1, 1, 0, 1, 0, 0, 0]  # two true and one false of either kind, and one more 0


def test_accuracy_is_the_share_of_right_labels() -> None:
    found = metric("accuracy").compute(predictions=_PREDICTIONS, references=_REFERENCES)
    assert found == {"accuracy": 5 / 7} == {"accuracy": accuracy_score(_REFERENCES, _PREDICTIONS)}


def test_f1_is_that_of_class_one() -> None:
    found = metric("f1").compute(predictions=_PREDICTIONS, references=_REFERENCES)
    assert found == pytest.approx({"f1": 2 * 2 / (2 * 2 + 1 + 1)})


def test_matthews_correlation_follows_its_formula() -> None:
    found = metric("matthews_correlation").compute(predictions=_PREDICTIONS, references=_REFERENCES)
    expected = (2 * 3 - 1 * 1) / math.sqrt(3 * 3 * 4 * 4)
    assert found == pytest.approx({"matthews_correlation": expected})


def test_f1_and_matthews_are_zero_where_one_class_is_all_there_is() -> None:
    for name in ("f1", "matthews_correlation"):
        found = metric(name).compute(predictions=[0, 0], references=[0, 0])
        assert found == {name: 0.0}


def test_matthews_is_zero_where_one_side_has_one_class_alone() -> None:
    for predictions, references in (([0, 1], [0, 0]), ([1, 1], [0, 1]), ([1, 1], [0, 0])):
        found = metric("matthews_correlation").compute(
            predictions=predictions, references=references
        )
        assert found == {"matthews_correlation": 0.0}


def test_f1_refuses_a_third_class() -> None:
    with pytest.raises(ConfigurationError, match="references of row 1 to be 0 or 1"):
        metric("f1").compute(predictions=[0, 1], references=[0, 2])
