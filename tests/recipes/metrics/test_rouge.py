import pytest

from dpft.recipes.metrics import metric


def test_rouge_of_a_worked_example() -> None:
    found = metric("rouge").compute(
        predictions=["The cat sat."], references=["The cat sat on the mat."]
    )
    # Precision 1 throughout; recall 3 of 6 words, 2 of 5 pairs, 3 of 6 in order.
    assert found == pytest.approx({"rouge1": 2 / 3, "rouge2": 4 / 7, "rougeL": 2 / 3})


def test_rouge_takes_the_best_reference_of_each_record_and_the_mean_over_records() -> None:
    found = metric("rouge").compute(
        predictions=["a b", "c"], references=[["a b c d", "a b"], ["d e"]]
    )
    assert found == pytest.approx({"rouge1": 0.5, "rouge2": 0.5, "rougeL": 0.5})


def test_rouge_l_wants_order_where_rouge_1_does_not() -> None:
    found = metric("rouge").compute(predictions=["b a"], references=["a b"])
    assert found == pytest.approx({"rouge1": 1.0, "rouge2": 0.0, "rougeL": 0.5})
