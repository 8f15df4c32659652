"""A published file ties runs to tensors, and its numbers are for readers alone."""

import dataclasses
import json
import math
from typing import Any

import pytest

from dpft.accounting import (
    Adjacency,
    Certificate,
    ConfigurationError,
    Opaque,
    PoissonGaussian,
    RunRecord,
    numerical_error,
)
from dpft.accounting.canonical_json import digest_of
from dpft.accounting.publication import Claim, Publication

DIGEST = "0f" * 32
CLAIM = {"accountant": "rdp", "delta": 1e-4, "epsilon": 1.0, "numerical_error": None}


def certificate(*, private: bool = True, accountant: str = "rdp") -> Certificate:
    run = RunRecord(
        run_id="one",
        dataset_id="letters",
        mechanism=PoissonGaussian(2.0, 0.1, 300) if private else None,
        adjacency=Adjacency.ADD_OR_REMOVE,
        num_records=1000,
        expected_batch_size=100,
        clipping="auto_s",
        clip_norm=1.0,
        delta=1e-4,
        private=private,
        generator="chacha20",
        sampler="poisson",
        accountant=accountant,
    )
    return Certificate((run,))


def test_claims_are_stated_at_several_deltas() -> None:
    published = Publication.of(certificate(), DIGEST, 1e-4)
    deltas = [claim.delta for claim in published.claims]
    assert deltas == pytest.approx([1e-4, 1e-5, 1e-6])
    for claim in published.claims:
        assert claim.epsilon == certificate().epsilon(claim.delta)


def test_a_smaller_delta_without_a_bound_costs_no_run_its_claim() -> None:
    """An opaque release has spent a tenth of the planned delta, and the plan itself holds."""
    run = dataclasses.replace(certificate().runs[0], mechanism=Opaque(1.0, 2e-5))
    published = Publication.of(Certificate((run,)), DIGEST, 1e-4)
    (claim,) = published.claims
    assert claim.delta == 1e-4
    with pytest.raises(ConfigurationError, match="opaque releases have spent"):
        Publication.of(Certificate((run,)), DIGEST, 1e-5)


def test_the_numerical_error_is_stated_where_there_is_one() -> None:
    discretised = Publication.of(certificate(accountant="pld"), DIGEST, 1e-4)
    first, *others = discretised.claims
    assert first.numerical_error == numerical_error(PoissonGaussian(2.0, 0.1, 300), 1e-4)
    assert not any(claim.numerical_error for claim in others)
    assert Publication.from_json(discretised.to_json()) == discretised
    assert Publication.of(certificate(), DIGEST, 1e-4).claims[0].numerical_error is None
    naked = certificate(private=False, accountant="pld")
    assert Publication.of(naked, DIGEST, 1e-4).claims[0].numerical_error is None


@pytest.mark.parametrize("private", [True, False])
def test_json_and_back_is_the_same_publication(private: bool) -> None:
    published = Publication.of(certificate(private=private), DIGEST, 1e-4)
    again = Publication.from_json(published.to_json())
    assert again == published
    assert again.to_json() == published.to_json()
    assert published.digest == digest_of(published.to_json())
    assert math.isfinite(again.claims[0].epsilon) is private


def test_the_certificate_in_it_does_not_believe_its_claims() -> None:
    published = Publication(certificate(), DIGEST, (Claim("rdp", 1e-4, 0.001),))
    assert Certificate.from_json(published.to_json()) == certificate()
    assert Certificate.from_json(published.to_json()).epsilon() > 1


@pytest.mark.parametrize(
    "change",
    [
        {"artefact": {}},
        {"artefact": {"tensors_sha256": "0f"}},
        {"artefact": {"tensors_sha256": DIGEST, "size": 1}},
        {"claims": {}},
        {"claims": [{"accountant": "rdp", "delta": 1e-4}]},
        {"claims": [{**CLAIM, "delta": 2.0}]},
        {"claims": [{**CLAIM, "epsilon": "small"}]},
        {"claims": [{**CLAIM, "accountant": None}]},
        {"claims": [{**CLAIM, "numerical_error": "small"}]},
        {"signature": "x"},
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused(change: dict[str, Any]) -> None:
    fields = json.loads(Publication.of(certificate(), DIGEST, 1e-4).to_json())
    with pytest.raises(ConfigurationError):
        Publication.from_json(json.dumps({**fields, **change}))


def test_a_certificate_without_an_artefact_is_no_publication() -> None:
    with pytest.raises(ConfigurationError, match="exactly the fields"):
        Publication.from_json(certificate().to_json())
