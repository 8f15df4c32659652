import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.nist_score import corpus_nist

from dpft.recipes.metrics import metric
from dpft.recipes.metrics.nist import nist_scorer

_WORDS = st.lists(st.sampled_from("abcd"), min_size=5, max_size=8)


def _nist(predictions: list[str], references: list[list[str]]) -> float:
    found = metric("nist").compute(predictions=predictions, references=references)
    assert found is not None
    return found["nist"]


def test_weights_of_a_worked_example() -> None:
    # Of 4 words a is 2, b and c are 1: weights 1, 2, 2. Both pairs follow one a of two: weight 1.
    references = [["a b"], ["a c"]]
    assert _nist(["a b", "a c"], references) == pytest.approx((1 + 2 + 1 + 2) / 4 + (1 + 1) / 2)
    assert _nist(["a b", "a d"], references) == pytest.approx((1 + 2 + 1) / 4 + 1 / 2)


def test_two_thirds_of_the_length_halve_the_score() -> None:
    # Each word is one of three, and a pair whose first word is known tells nothing.
    assert _nist(["a b"], [["a b c"]]) == pytest.approx(math.log2(3) / 2)


def test_a_count_is_clipped_by_the_largest_over_all_references() -> None:
    # a and b are 3 of 6 words each; aa, bb are 1 of 3 that follow, ab 2 of 3; abb is 1 of 2.
    words, pairs, triples = 1.0, (2 * math.log2(3) + math.log2(3 / 2)) / 3, (0 + 1) / 2
    found = _nist(["a a b b"], [["a a b", "a b b"]])
    assert found == pytest.approx(words + pairs + triples)
    # Said three times, a matches twice: 2 is the most in one reference, not 3 in both.
    found = _nist(["a a a b"], [["a a b", "a b b"]])
    assert found == pytest.approx(3 / 4 + (math.log2(3) + math.log2(3 / 2)) / 3)


def test_the_length_compared_with_is_the_mean_over_all_references() -> None:
    # 2 + 2 words against 10 words in 3 references of 2 records: 4 / (10 / 1.5).
    references = [["a b", "a b c d"], ["e f g h"]]
    ratio = 4 / (10 / (3 / 2))
    penalty = math.exp(math.log(0.5) * (math.log(ratio) / math.log(1.5)) ** 2)
    words = (2 * math.log2(10 / 2) + 2 * math.log2(10)) / 4
    pairs = (math.log2(2 / 2) + math.log2(1)) / 2
    assert _nist(["a b", "e f"], references) == pytest.approx(penalty * (words + pairs))


@settings(max_examples=15)
@given(st.lists(st.tuples(_WORDS, _WORDS), min_size=1, max_size=4))
def test_nltk_agrees_where_every_record_has_one_reference(
    pairs: list[tuple[list[str], list[str]]],
) -> None:
    predictions, references = [p for p, _ in pairs], [[r] for _, r in pairs]
    scorer = nist_scorer()
    texts = [" ".join(p) for p in predictions], [[" ".join(r)] for (r,) in references]
    found = scorer.score(scorer.statistics(*texts))
    assert found["nist"] == pytest.approx(corpus_nist(references, predictions), abs=1e-12)


def test_case_does_not_count_and_silence_scores_nothing() -> None:
    assert _nist(["A B"], [["a b"]]) == _nist(["a b"], [["a b"]]) > 0
    assert _nist([""], [["a b"]]) == 0
