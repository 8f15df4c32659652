import pytest

from dpft.recipes.metrics import metric


def _meteor(prediction: str, *references: str) -> float:
    found = metric("meteor_exact_stem").compute(
        predictions=[prediction], references=[list(references)]
    )
    assert found is not None
    return found["meteor_exact_stem"]


def _expected(matches: int, chunks: int, said: int, wanted: int) -> float:
    precision, recall = matches / said, matches / wanted
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    return mean * (1 - 0.5 * (chunks / matches) ** 3)


def test_equal_texts_lose_only_the_penalty_of_one_chunk() -> None:
    assert _meteor("The cat sat.", "the cat sat") == pytest.approx(_expected(3, 1, 3, 3))


def test_order_costs_by_the_number_of_chunks() -> None:
    found = _meteor("on the mat sat the cat", "the cat sat on the mat")
    assert found < _expected(6, 1, 6, 6)
    assert _meteor("b a", "a b c") == pytest.approx(_expected(2, 2, 2, 3))


def test_stems_match_and_synonyms_do_not() -> None:
    assert _meteor("cats", "cat") == pytest.approx(_expected(1, 1, 1, 1))
    assert _meteor("car", "automobile") == 0


def test_the_best_reference_counts() -> None:
    assert _meteor("a b", "c d", "a b") == pytest.approx(_expected(2, 1, 2, 2))
