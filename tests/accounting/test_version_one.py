"""Certificates of version 1 are read as what they meant, or refused."""

import json
from typing import Any

import pytest

from dpft.accounting import Certificate, ConfigurationError, PoissonGaussian, epsilon
from dpft.accounting.inputs import InputStatus
from dpft.accounting.run_record import SelectionStatus

RUN = {
    "accountant": "rdp",
    "adjacency": "add_or_remove",
    "clip_norm": 1.0,
    "clipping": "auto_s",
    "dataset_id": "letters",
    "delta": 1e-4,
    "expected_batch_size": 100,
    "generator": "chacha20",
    "inputs": ["minilm"],
    "mechanism": {
        "adjacency": "add_or_remove",
        "kind": "poisson_gaussian",
        "noise_multiplier": 2.0,
        "sample_rate": 0.1,
        "steps": 300,
    },
    "num_records": 1000,
    "private": True,
    "run_id": "one",
    "sampler": "poisson",
    "unit": "record",
}


def old(**changes: Any) -> str:
    return json.dumps({"format_version": 1, "runs": [{**RUN, **changes}]})


def test_version_one_is_read_as_what_it_meant() -> None:
    certificate = Certificate.from_json(old())
    (run,) = certificate.runs
    assert certificate.epsilon() == epsilon(PoissonGaussian(2.0, 0.1, 300), 1e-4, accountant="rdp")
    assert [(each.name, each.status) for each in run.inputs] == [("minilm", InputStatus.PUBLIC)]
    assert run.divisor == 100
    assert run.selection is SelectionStatus.NOT_ACCOUNTED
    assert Certificate.from_json(certificate.to_json()) == certificate


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": ["adapter"]},  # trained by a run that version 1 did not count
        {"inputs": "minilm"},
        {"inputs": [""]},
        {"partition": None},
        {"num_records": 999},
    ],
    ids=str,
)
def test_what_version_one_did_not_say_exactly_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Certificate.from_json(old(**change))


def test_new_fields_do_not_hide_in_an_old_file() -> None:
    fields = {**json.loads(old()), "claims": []}
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Certificate.from_json(json.dumps(fields))
