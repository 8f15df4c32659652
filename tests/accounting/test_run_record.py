"""Records of runs are lossless, and contradict themselves in nothing."""

import dataclasses
import math
from typing import Any

import pytest

from dpft.accounting import (
    Adjacency,
    Composed,
    ConfigurationError,
    FixedBatchGaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    RunRecord,
    Selection,
    TruncatedPoissonGaussian,
    Unit,
    UserPoissonGaussian,
)
from dpft.accounting.dataset_use import DatasetUse, Partition
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.run_record import LedgerReference, SelectionStatus

MECHANISM = PoissonGaussian(2.0, 0.1, 300)
ZERO_OUT = Adjacency.ZERO_OUT
DIGEST = "0f" * 32


def record(**changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "run_id": "one",
        "dataset_id": "letters",
        "mechanism": MECHANISM,
        "adjacency": Adjacency.ADD_OR_REMOVE,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "pld",
    }
    return RunRecord(**{**fields, **changes})


def full() -> RunRecord:
    certified = {"status": InputStatus.CERTIFIED, "certificate": DIGEST, "runs": ("a", "b")}
    return record(
        partition=Partition("sha256(id) mod 4", "3"),
        uses=(
            DatasetUse("letters", 1000, 0.1, Partition("sha256(id) mod 4", "3")),
            DatasetUse("diaries", None, 0.05),
        ),
        inputs=(
            Input(name="base", role=InputRole.BASE_MODEL, status=InputStatus.PUBLIC),
            Input(name="mnli", role=InputRole.SOURCE_PROMPT, **certified),  # type: ignore[arg-type]
        ),
        selection=SelectionStatus.ACCOUNTED,
        divisor=100,
        versions={"torch": "2.13", "dpft": "0.1"},
        excluded=("The weather.",),
        ledger=LedgerReference(DIGEST, 7),
    )


def test_fields_and_back_is_the_same_record() -> None:
    for each in (record(), full(), record(private=False, mechanism=None, clip_norm=None)):
        assert RunRecord.from_fields(each.fields()) == each


def test_records_are_values() -> None:
    assert hash(full()) == hash(full())
    assert full() != dataclasses.replace(full(), versions={})


@pytest.mark.parametrize(
    "mechanism",
    [
        TruncatedPoissonGaussian(2.0, 0.1, 30, 1000, 180, ZERO_OUT),
        FixedBatchGaussian(2.0, 30, 3, ZERO_OUT),
        Laplace(3.0, 2, ZERO_OUT),
        Selection(0.5, ZERO_OUT),
        Opaque(1.0, 1e-6, ZERO_OUT),
        RepeatAndSelect(PoissonGaussian(2.0, 0.1, 30, ZERO_OUT), 3.0, 1.0, ZERO_OUT),
        Composed((PoissonGaussian(2.0, 0.1, 30, ZERO_OUT), Laplace(3.0, 1, ZERO_OUT)), ZERO_OUT),
    ],
    ids=lambda mechanism: mechanism.kind,
)
def test_any_mechanism_is_kept_without_loss(mechanism: Mechanism) -> None:
    kept = record(mechanism=mechanism, adjacency=ZERO_OUT)
    assert RunRecord.from_fields(kept.fields()).mechanism == mechanism


def test_a_run_for_users_says_so() -> None:
    mechanism = UserPoissonGaussian(2.0, 0.1, 30, 4)
    assert record(mechanism=mechanism, unit="user").unit is Unit.USER
    for unit, other in (("record", mechanism), ("user", MECHANISM)):
        with pytest.raises(ConfigurationError, match="unit"):
            record(mechanism=other, unit=unit)


def test_a_sample_rate_that_is_not_batch_over_records_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sample_rate"):
        record(num_records=1001)
    assert record(num_records=None).mechanism == MECHANISM
    with pytest.raises(ConfigurationError, match="expected_batch_size"):
        record(expected_batch_size=None)


def test_rates_inside_other_mechanisms_are_checked_too() -> None:
    wrong = PoissonGaussian(2.0, 0.2, 30)
    for mechanism in (RepeatAndSelect(wrong, 3.0, 1.0), Composed((MECHANISM, wrong))):
        with pytest.raises(ConfigurationError, match="sample_rate"):
            record(mechanism=mechanism)
    truncated = TruncatedPoissonGaussian(2.0, 0.1, 30, 999, 180, ZERO_OUT)
    with pytest.raises(ConfigurationError, match="num_records"):
        record(mechanism=truncated, adjacency=ZERO_OUT)


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": ""},
        {"dataset_id": 7},
        {"mechanism": None},
        {"mechanism": "poisson"},
        {"unit": "household"},
        {"adjacency": "zero_out"},
        {"adjacency": "any"},
        {"num_records": 0},
        {"num_records": 1000.0},
        {"expected_batch_size": 0},
        {"divisor": 0},
        {"divisor": 1.5},
        {"clipping": ""},
        {"clip_norm": 0.0},
        {"clip_norm": math.nan},
        {"delta": 1e-3},
        {"delta": math.nan},
        {"private": 1},
        {"generator": ""},
        {"sampler": None},
        {"accountant": "gdp"},
        {"inputs": ["base"]},
        {"inputs": ("base",)},
        {"partition": "3"},
        {"selection": "maybe"},
        {"versions": {"torch": 2}},
        {"versions": ["torch"]},
        {"excluded": ("",)},
        {"excluded": "The weather."},
        {"ledger": DIGEST},
        {"uses": (DatasetUse("letters", 1000, 0.1),)},
        {"uses": (DatasetUse("diaries", 10, 0.1), DatasetUse("letters", 1000, 0.1))},
        {"uses": (DatasetUse("letters", 1000, 0.1), DatasetUse("letters", 1000, 0.1))},
        {"uses": (DatasetUse("letters", 1000, 0.1), DatasetUse("diaries", 10))},
    ],
    ids=str,
)
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        record(**change)


def test_several_data_sets_are_for_poisson_samples_alone() -> None:
    uses = (DatasetUse("letters", 1000), DatasetUse("diaries", 10, 0.1))
    with pytest.raises(ConfigurationError, match="several data sets"):
        record(mechanism=Selection(0.5), uses=uses)


@pytest.mark.parametrize("reference", [("0f", 1), (DIGEST.upper(), 1), (DIGEST, 0), (None, 1)])
def test_a_reference_that_names_no_entry_is_refused(reference: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match="ledger"):
        LedgerReference(*reference)


@pytest.mark.parametrize("field", ["inputs", "uses", "excluded"])
def test_text_in_place_of_a_list_is_refused(field: str) -> None:
    with pytest.raises(ConfigurationError, match="a list"):
        RunRecord.from_fields(record().fields() | {field: "ab"})
