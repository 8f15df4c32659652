import numpy as np
import pytest
from scipy.stats import binom

from dpft.errors import ConfigurationError
from dpft.recipes.metrics import metric
from dpft.recipes.metrics.intervals import Bootstrap, bootstrap_intervals, wilson_interval
from dpft.recipes.metrics.scorer import Rows


@pytest.mark.parametrize(
    ("correct", "records", "lower", "upper"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_as_published_by_newcombe(
    correct: int, records: int, lower: float, upper: float
) -> None:
    assert wilson_interval(correct, records) == pytest.approx((lower, upper), abs=5e-5)


@pytest.mark.parametrize(("correct", "records"), [(-1, 3), (4, 3), (0, 0)])
def test_wilson_refuses_what_is_no_share(correct: int, records: int) -> None:
    with pytest.raises(ConfigurationError, match="raw_correct <= num_records"):
        wilson_interval(correct, records)


def _rows(correct: int, records: int) -> Rows:
    labels = np.ones(records)
    return np.column_stack([np.arange(records) < correct, labels]).astype(np.float64)


def test_the_bootstrap_of_an_accuracy_has_the_quantiles_of_a_binomial() -> None:
    records, correct = 200, 150
    settings = Bootstrap(resamples=2000, confidence=0.9, seed=3)
    found = bootstrap_intervals(metric("accuracy").scorer, _rows(correct, records), settings)
    expected = binom.ppf([0.05, 0.95], records, correct / records) / records
    assert found["accuracy"] == pytest.approx(tuple(expected), abs=1.01 / records)


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    scorer, rows = metric("accuracy").scorer, _rows(37, 61)
    one = bootstrap_intervals(scorer, rows, Bootstrap(resamples=100, confidence=0.5))
    same = bootstrap_intervals(scorer, rows, Bootstrap(resamples=100, confidence=0.5))
    other = bootstrap_intervals(scorer, rows, Bootstrap(resamples=100, confidence=0.5, seed=1))
    wide = bootstrap_intervals(scorer, rows, Bootstrap(resamples=100, confidence=0.99))
    assert one == same != other
    assert wide["accuracy"][0] < one["accuracy"][0] < one["accuracy"][1] < wide["accuracy"][1]


def test_records_that_are_all_alike_leave_no_doubt() -> None:
    scorer = metric("e2e").scorer
    rows = np.tile(scorer.statistics(["a b c d", "e f"], [["a b c d"], ["e f"]])[:1], (5, 1))
    found = bootstrap_intervals(scorer, rows, Bootstrap(resamples=100))
    assert set(found) == set(scorer.figures)
    assert all(lower == pytest.approx(upper) for lower, upper in found.values())


def test_one_record_has_no_interval() -> None:
    with pytest.raises(ConfigurationError, match="records to be at least two"):
        bootstrap_intervals(metric("accuracy").scorer, _rows(1, 1), Bootstrap())


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"resamples": 99}, {"seed": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Bootstrap(**wrong)  # type: ignore[arg-type]
