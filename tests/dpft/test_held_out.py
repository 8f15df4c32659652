import pytest

from dpft.accounting import Adjacency, Certificate, ConfigurationError, DiscreteLaplace
from dpft.accounting.dataset_use import Partition
from dpft.held_out import held_out_name, metric_id, metric_record, training_part
from dpft.privacy import EvaluationStatus, Privacy

NOISY = {"evaluation": EvaluationStatus.NOISY, "evaluation_epsilon": 0.5}


def privacy(**fields: object) -> Privacy:
    given: dict[str, object] = {
        "dataset_id": "letters",
        "delta": 1e-4,
        "expected_batch_size": 50,
        "noise_multiplier": 2.0,
        "steps": 20,
    }
    return Privacy(**(given | fields))


def test_a_noisy_metric_has_an_entry_of_its_own() -> None:
    record = metric_record(privacy(**NOISY).plan(1000), "run")
    assert record is not None
    assert record.run_id == metric_id("run") != "run"
    assert record.mechanism == DiscreteLaplace(0.5, adjacency=Adjacency.ZERO_OUT)
    assert (record.dataset_id, record.partition, record.delta) == ("letters", None, 1e-4)
    assert Certificate((record,)).epsilon() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("status", [None, EvaluationStatus.PUBLIC, EvaluationStatus.NONE])
def test_other_metrics_have_none(status: EvaluationStatus | None) -> None:
    assert metric_record(privacy(evaluation=status).plan(1000), "run") is None


def test_records_that_a_public_rule_keeps_apart_are_other_parts() -> None:
    apart = privacy(**NOISY, evaluation_split="year = 2020")
    record = metric_record(apart.plan(1000), "run")
    assert record is not None
    assert record.partition == Partition("year = 2020", "held out")
    assert training_part(apart) == Partition("year = 2020", "training")
    assert held_out_name(apart) != "letters" == held_out_name(privacy(**NOISY))


def test_a_stated_number_of_records_needs_a_stated_number_of_held_out_ones() -> None:
    with pytest.raises(ConfigurationError, match="evaluation_records to be given"):
        privacy(**NOISY, num_records=1000)
    stated = privacy(**NOISY, num_records=1000, evaluation_records=100)
    record = metric_record(stated.plan(1003), "run")
    assert record is not None
    assert record.adjacency is Adjacency.ADD_OR_REMOVE
    assert record.num_records == record.divisor == 100


@pytest.mark.parametrize("field", ["evaluation_records", "evaluation_split"])
def test_what_concerns_a_noisy_metric_is_refused_without_one(field: str) -> None:
    value = 100 if field == "evaluation_records" else "year = 2020"
    with pytest.raises(ConfigurationError, match=f"{field}={value} to be given with evaluation=n"):
        privacy(evaluation=EvaluationStatus.PUBLIC, **{field: value})


def test_a_delta_that_does_not_suit_held_out_records_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigurationError, match="1/evaluation_records=5e-05"):
        privacy(**NOISY, num_records=1000, evaluation_records=20_000)
    fits = privacy(**NOISY, num_records=1000, evaluation_records=5000).plan(1000)
    assert metric_record(fits, "run") is not None
