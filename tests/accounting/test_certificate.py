"""Certificates compute what they claim, and refuse what they do not understand."""

import dataclasses
import json
import math
from typing import Any

import pytest

from dpft.accounting import (
    Adjacency,
    Certificate,
    ConfigurationError,
    PoissonGaussian,
    RunRecord,
    epsilon,
)

MECHANISM = PoissonGaussian(2.0, 0.1, 300)


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
        "inputs": ("public:base",),
    }
    return RunRecord(**{**fields, **changes})


def test_epsilon_follows_the_mechanism_and_is_not_stored() -> None:
    certificate = Certificate((record(),))
    assert certificate.epsilon() == epsilon(MECHANISM, 1e-4)
    assert certificate.epsilon(1e-5) == epsilon(MECHANISM, 1e-5)
    assert "epsilon" not in certificate.to_json()


def test_epsilon_is_computed_by_the_planned_accountant_unless_another_is_named() -> None:
    certificate = Certificate((record(accountant="rdp"),))
    assert certificate.epsilon() == epsilon(MECHANISM, 1e-4, accountant="rdp")
    assert certificate.epsilon(accountant="pld") == epsilon(MECHANISM, 1e-4)


def test_two_runs_spend_more_than_one() -> None:
    both = Certificate((record(), record(run_id="two", dataset_id="diaries")))
    assert both.epsilon() == epsilon([MECHANISM, MECHANISM], 1e-4)
    assert both.epsilon() > Certificate((record(),)).epsilon()


@pytest.mark.parametrize("mechanism", [MECHANISM, None])
def test_epsilon_is_infinite_if_any_run_is_not_private(mechanism: PoissonGaussian | None) -> None:
    naked = record(run_id="two", private=False, mechanism=mechanism)
    assert Certificate((record(), naked)).epsilon() == math.inf


def test_json_and_back_is_the_same_certificate() -> None:
    certificate = Certificate(
        (record(), record(run_id="two", private=False, mechanism=None, num_records=None, inputs=()))
    )
    again = Certificate.from_json(certificate.to_json())
    assert again == certificate
    assert again.to_json() == certificate.to_json()


def test_equal_certificates_give_equal_text() -> None:
    runs = (record(), record(run_id="two"))
    assert Certificate(runs).to_json() == Certificate(runs[::-1]).to_json()
    text = Certificate(runs).to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_unknown_fields_are_refused() -> None:
    fields = json.loads(Certificate((record(),)).to_json())
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Certificate.from_json(json.dumps({**fields, "epsilon": 0.1}))
    fields["runs"][0]["discount"] = 2
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Certificate.from_json(json.dumps(fields))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunRecord)])
def test_missing_fields_are_refused(name: str) -> None:
    fields = json.loads(Certificate((record(),)).to_json())
    del fields["runs"][0][name]
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Certificate.from_json(json.dumps(fields))


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_an_unknown_version_is_refused(version: object) -> None:
    fields = json.loads(Certificate((record(),)).to_json())
    with pytest.raises(ConfigurationError, match="format_version"):
        Certificate.from_json(json.dumps({**fields, "format_version": version}))


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '{"format_version":1,"runs":{}}'])
def test_text_that_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Certificate.from_json(text)


def test_a_repeated_key_is_refused() -> None:
    text = Certificate((record(),)).to_json()
    twice = text.replace('"private":true', '"private":false,"private":true')
    with pytest.raises(ConfigurationError, match="repetition"):
        Certificate.from_json(twice)


def test_a_certificate_without_runs_or_with_one_run_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        Certificate(())
    with pytest.raises(ConfigurationError, match="repetition"):
        Certificate((record(), record(delta=1e-5)))


def test_a_sample_rate_that_is_not_batch_over_records_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sample_rate"):
        record(num_records=1001)
    assert record(num_records=None).mechanism == MECHANISM


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": ""},
        {"dataset_id": 7},
        {"mechanism": None},
        {"mechanism": "poisson"},
        {"unit": "user"},
        {"adjacency": "zero_out"},
        {"adjacency": "any"},
        {"num_records": 0},
        {"num_records": 1000.0},
        {"expected_batch_size": 0},
        {"clipping": ""},
        {"clip_norm": 0.0},
        {"clip_norm": math.nan},
        {"delta": 1e-3},
        {"delta": math.nan},
        {"private": 1},
        {"generator": ""},
        {"sampler": None},
        {"accountant": "gdp"},
        {"inputs": ["public:base"]},
        {"inputs": ("",)},
    ],
    ids=str,
)
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        record(**change)


def test_runs_of_different_delta_need_a_stated_one() -> None:
    both = Certificate((record(), record(run_id="two", delta=1e-5)))
    with pytest.raises(ConfigurationError, match="State the delta"):
        both.epsilon()
    assert both.epsilon(1e-5) > 0


def test_a_delta_that_lets_whole_records_leak_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="1/num_records"):
        Certificate((record(),)).epsilon(0.01)
