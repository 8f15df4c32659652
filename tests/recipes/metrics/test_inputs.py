from typing import Any

import numpy as np
import pytest
import torch

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.inputs import checked_records
from dpft.recipes.metrics.scorer import Kind

_SECRET = "Alice has diabetes"
_NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "predictions", "references", "message"),
    [
        (Kind.TEXTS, [_SECRET], [_SECRET, _SECRET], r"predictions \(1 records\) to be as many as"),
        (Kind.TEXTS, [_SECRET, None], [[_SECRET], [_SECRET]], "predictions of row 1 to be a text"),
        (Kind.TEXTS, [_SECRET], [[]], "references of row 0 .* at least one text"),
        (Kind.TEXTS, [_SECRET], [None], "references of row 0 .* at least one text"),
        (Kind.TEXTS, [_SECRET, _SECRET], [_SECRET, [_SECRET, " "]], "references of row 1"),
        (Kind.TEXTS, [_SECRET], [""], "references of row 0 to be texts with at least one word"),
        (Kind.TEXTS, [_SECRET], [[_SECRET, 3]], "references of row 0"),
        (Kind.TEXTS, [], [], "predictions to hold at least one record"),
        (Kind.TEXTS, _SECRET, [_SECRET], "predictions to be a list"),
        (Kind.TEXTS, [_SECRET], None, "references to be a list"),
        (Kind.LABELS, [1, _NAN], [1, 1], "predictions of row 1 to be an index"),
        (Kind.LABELS, [1, 1], [1, _SECRET], "references of row 1 to be an index"),
        (Kind.NUMBERS, [1.0, _NAN], [1.0, 2.0], "predictions of row 1 to be a finite"),
        (Kind.NUMBERS, [1.0, 2.0], [1.0, float("inf")], "references of row 1 to be a finite"),
        (Kind.LOSSES, [1.0, _NAN], [1, 1], "predictions of row 1 to be a summed loss"),
        (Kind.LOSSES, [-1.0], [1], "predictions of row 0 to be a summed loss"),
        (Kind.LOSSES, [1.0], [0], "references of row 0 to be a number of tokens"),
    ],
)
def test_a_message_never_quotes_a_text(
    kind: Kind, predictions: Any, references: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        checked_records(kind, predictions, references)
    assert "Alice" not in str(caught.value)
    assert str(caught.value).startswith("Expected ")


def test_one_reference_is_a_list_of_one() -> None:
    assert checked_records(Kind.TEXTS, ["a"], ["b"]) == (["a"], [["b"]])
    assert checked_records(Kind.TEXTS, [""], [("b", "c")]) == ([""], [["b", "c"]])


def test_arrays_and_tensors_are_lists() -> None:
    found = checked_records(Kind.LABELS, np.array([1, 0]), torch.tensor([0, 1]))
    assert found == ([1, 0], [0, 1])


def test_rows_are_counted_from_the_first_one() -> None:
    with pytest.raises(ConfigurationError, match="row 7"):
        checked_records(Kind.NUMBERS, [float("nan")], [1.0], first_row=7)
