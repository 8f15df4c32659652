"""Records of random tokens whose lengths are drawn as those of a public corpus are spread.

2 + a log-normal number of tokens, fitted to the encoded corpus. They stand in where no assets are.
"""

import dataclasses
from typing import Any

import numpy as np

__all__ = ["Lengths", "drawn_records"]

_SPECIAL = 2  # tokens that open and close a record
_TARGET = 0.45  # share of a written text in a record of prompt and text
_IGNORED = -100  # label of tokens that carry no loss


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How the lengths of records are spread, and what they are labelled with.

    Args:
        log_mean: Mean of the logarithm of a length without its two special tokens.
        log_std: Standard deviation of that logarithm.
        shortest: Fewest tokens of a record.
        longest: Most tokens of a record.
        classes: Number of labels; 0 where the last part of a record is the label, a text.

    Privacy:
        Nothing, no data touched.
    """

    log_mean: float
    log_std: float
    shortest: int
    longest: int
    classes: int


def drawn_records(count: int, vocabulary: int, lengths: Lengths) -> list[dict[str, Any]]:
    """Return records of random tokens and labels.

    Args:
        count: Number of records, >= 1.
        vocabulary: Number of tokens to draw from, >= 1.
        lengths: How long they are.

    Privacy:
        Nothing, no data touched.
    """
    random = np.random.default_rng(0)
    words = np.exp(random.normal(lengths.log_mean, lengths.log_std, count)).astype(int)
    drawn = np.clip(_SPECIAL + words, lengths.shortest, lengths.longest)
    return [_record(length, vocabulary, lengths.classes, random) for length in drawn.tolist()]


def _record(
    length: int, vocabulary: int, classes: int, random: np.random.Generator
) -> dict[str, Any]:
    ids = random.integers(vocabulary, size=length).tolist()
    record: dict[str, Any] = {"input_ids": ids, "attention_mask": [1] * length}
    if classes:
        return {**record, "token_type_ids": [0] * length, "labels": int(random.integers(classes))}
    prompt = length - max(1, int(_TARGET * length))
    return {**record, "labels": [*[_IGNORED] * prompt, *ids[prompt:]]}
