"""Checks of predictions and references, before any of them is scored.

A message names the field and the row, never what stands there: it may be somebody's text.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.scorer import Kind

__all__ = ["checked_records"]


def checked_records(
    kind: Kind, predictions: Any, references: Any, first_row: int = 0
) -> tuple[list[Any], list[Any]]:
    """Return predictions and references as lists in the one form that scorers accept.

    Args:
        kind: What they are.
        predictions: One per record; a list, array or tensor.
        references: One per record; for texts a text or a list of texts.
        first_row: Number of the first record in messages, >= 0.

    Returns:
        Predictions and references; references of texts are lists of texts.

    Raises:
        ConfigurationError: If there are none, their numbers differ, or one is not of its kind.

    Privacy:
        Messages name fields, rows and numbers of records, never contents
        (`test_a_message_never_quotes_a_text`).
    """
    predicted = _as_list("predictions", predictions)
    expected = _as_list("references", references)
    if len(predicted) != len(expected):
        raise ConfigurationError(
            f"Expected predictions ({len(predicted)} records) to be as many as references "
            f"({len(expected)} records). Row by row they belong together. Pass one prediction per "
            "record, also where the model said nothing."
        )
    if kind is Kind.TEXTS:
        expected = [[text] if isinstance(text, str) else text for text in expected]
    for row, (one, other) in enumerate(zip(predicted, expected, strict=True), start=first_row):
        _CHECKS[kind](row, one, other)
    return predicted, [list(each) for each in expected] if kind is Kind.TEXTS else expected


def _as_list(field: str, values: Any) -> list[Any]:
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigurationError(
            f"Expected {field} to be a list with one entry per record. Pass a list, an array of "
            "one dimension or a tensor of one dimension."
        )
    if not values:
        raise ConfigurationError(
            f"Expected {field} to hold at least one record. A metric of no records is undefined. "
            "Pass the held-out records."
        )
    return list(values)


def _refuse(field: str, row: int, rule: str, advice: str) -> None:
    raise ConfigurationError(f"Expected {field} of row {row} to be {rule}. {advice}")


def _check_texts(row: int, prediction: Any, references: Any) -> None:
    if not isinstance(prediction, str):
        _refuse("predictions", row, "a text", "Pass an empty text where the model said nothing.")
    if not isinstance(references, Sequence) or not references:
        _refuse(
            "references",
            row,
            "a text or a list of at least one text",
            "A record without references has no score. Leave it out, with its prediction.",
        )
    if not all(isinstance(text, str) and text.strip() for text in references):
        _refuse(
            "references",
            row,
            "texts with at least one word",
            "An empty reference would count as one that nothing can match. Leave it out.",
        )


def _check_labels(row: int, prediction: Any, reference: Any) -> None:
    for field, label in (("predictions", prediction), ("references", reference)):
        if not isinstance(label, Integral):
            _refuse(field, row, "an index of a class", "Pass the argmax of the logits as integer.")


def _check_numbers(row: int, prediction: Any, reference: Any) -> None:
    for field, number in (("predictions", prediction), ("references", reference)):
        if not _is_finite(number):
            _refuse(
                field,
                row,
                "a finite number",
                "A model that answers NaN has diverged. Lower the learning rate, or mend the file.",
            )


def _check_losses(row: int, loss: Any, tokens: Any) -> None:
    if not _is_finite(loss) or loss < 0:
        _refuse(
            "predictions",
            row,
            "a summed loss, finite and >= 0",
            "Pass the sum of the tokens' negative log-likelihoods in nats.",
        )
    if not isinstance(tokens, Integral) or tokens < 1:
        _refuse(
            "references",
            row,
            "a number of tokens, an integer >= 1",
            "A record without tokens has no loss. Leave it out.",
        )


def _is_finite(number: Any) -> bool:
    return isinstance(number, Real) and math.isfinite(number)


_CHECKS: dict[Kind, Callable[[int, Any, Any], None]] = {
    Kind.LABELS: _check_labels,
    Kind.LOSSES: _check_losses,
    Kind.NUMBERS: _check_numbers,
    Kind.TEXTS: _check_texts,
}
