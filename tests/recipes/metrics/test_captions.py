import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.recipes.metrics import metric
from dpft.recipes.metrics.captions import caption_words, rouge_l_scorer

_BETA = 1.2
_WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=5)


def _rouge_l(predictions: list[str], references: list[list[str]]) -> float:
    found = metric("rouge_l").compute(predictions=predictions, references=references)
    assert found is not None
    return found["rouge_l"]


def _f(precision: float, recall: float) -> float:
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def test_recall_counts_more_than_precision() -> None:
    long, short = "the cat sat on the mat", "the cat sat"
    assert _rouge_l([short], [[long]]) == pytest.approx(_f(1, 1 / 2))
    assert _rouge_l([long], [[short]]) == pytest.approx(_f(1 / 2, 1))


def test_precision_and_recall_may_come_of_different_references() -> None:
    assert _rouge_l(["the cat"], [["cat", "the cat sat on the mat"]]) == pytest.approx(1.0)


def test_nothing_in_common_and_silence_score_nothing() -> None:
    assert _rouge_l(["dog", ""], [["cat"], ["cat"]]) == 0


@settings(max_examples=40)
@given(_WORDS, _WORDS)
def test_the_longest_common_part_is_that_of_brute_force(one: list[str], other: list[str]) -> None:
    parts = [
        {c for n in range(len(w) + 1) for c in itertools.combinations(w, n)} for w in (one, other)
    ]
    common = max(len(part) for part in parts[0] & parts[1])
    expected = _f(common / len(one), common / len(other)) if common else 0.0
    rows = rouge_l_scorer().statistics([" ".join(one)], [[" ".join(other)]])
    assert rows.item() == pytest.approx(expected)


def test_words_are_those_of_the_treebank_in_every_sentence() -> None:
    assert caption_words("It is cheap. It isn't new, is it?") == [
        *("it", "is", "cheap"),
        *("it", "is", "n't", "new", "is", "it"),
    ]
    assert caption_words("rated 3.5 out of 5...") == ["rated", "3.5", "out", "of", "5"]
