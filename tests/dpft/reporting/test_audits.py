"""An audit beside a run is shown if it is of that run, and refused if it is not."""

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dpft.accounting import Certificate, PoissonGaussian, Publication, RunRecord, epsilon
from dpft.accounting.auditing import final_epsilon, one_run_ceiling
from dpft.accounting.canonical_json import canonical, digest_of
from dpft.accounting.inputs import InputRole
from dpft.accounting.run_record import LedgerReference
from dpft.audit_comparison import audit_problems, with_attack
from dpft.audit_statement import (
    AUDIT,
    AuditStatement,
    StatedAttack,
    StatedBounds,
    StatedConformance,
    StatedTest,
)
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.preflight_statement import digest_of_settings
from dpft.reporting.facts import Facts, collect
from dpft.reporting.reading import read_run
from dpft.reporting.run_report import write_run_report
from dpft.verification import verify

TEST = StatedTest("noise: variance", 1.0, "1 times", passed=True, p_value=0.3)
CONFORMANCE = StatedConformance((TEST,), ("dropout: no Dropout module in the model",))
CLAIMED = PoissonGaussian(2.0, 0.1, 30)
DELTA = 1e-6


@pytest.fixture
def shared(facts: Facts) -> Path:
    """A run into whose folder nothing is written."""
    return facts.sources.folder.path


def published(run: Path) -> Publication:
    return Publication.from_json((run / "certificate.json").read_text(encoding="utf-8"))


@cache
def known_bounds(*, trace: bool) -> StatedBounds:
    claimed = epsilon(CLAIMED, DELTA)
    return StatedBounds(
        claimed=claimed,
        delta=DELTA,
        one_run=0.25,
        ceiling=one_run_ceiling(100, DELTA),
        independent=0.5,
        attainable=claimed if trace else final_epsilon(CLAIMED, DELTA),
    )


def bounds(*, trace: bool, **changes: Any) -> StatedBounds:
    return dataclasses.replace(known_bounds(trace=trace), **changes)


def attack(run: Path, **changes: Any) -> StatedAttack:
    (own,) = published(run).certificate.runs
    other = {"run_id": "f" * 32, "ledger": LedgerReference("0f" * 32, 7)}
    repeated = dataclasses.replace(own, **{**other, **changes})
    return StatedAttack(100, repeated, bounds(trace=True), bounds(trace=False))


def statement(run: Path, **changes: Any) -> AuditStatement:
    (own,) = published(run).certificate.runs
    settings = digest_of_settings(run / "config.yaml")
    assert settings is not None
    known = AuditStatement(settings, own.versions, published(run).digest, CONFORMANCE, attack(run))
    return dataclasses.replace(known, **changes)


def state(run: Path, **changes: Any) -> None:
    (run / AUDIT).write_text(statement(run, **changes).to_json() + "\n", encoding="utf-8")


def problems(run: Path, path: Path, text: str | None = None, **changes: Any) -> list[str]:
    """What speaks against an audit of a run, written elsewhere."""
    path.write_text(text or statement(run, **changes).to_json() + "\n", encoding="utf-8")
    return audit_problems(path, published(run), digest_of_settings(run / "config.yaml"))


def failed(run: Path) -> set[str]:
    return {each.check for each in verify(run) if not each.passed}


def test_an_audit_of_the_run_is_shown_to_both_readers(run: Path, tmp_path: Path) -> None:
    state(run)

    assert not failed(run)
    write_run_report(collect(read_run(run)), tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "| Checks of the engine | 1, none failed |" in text
    assert "epsilon is at least 0.25, or 0.50 with assumptions" in text
    assert "| Attacked run, entry in the ledger | 7 |" in text
    assert "| noise: variance | 1 | 0.3 | 1 times | pass |" in text
    assert "no Dropout module in the model, not checked" in text
    assert "| Not checked | dropout: no Dropout module in the model |" in text
    assert "delta 1e-06" in text
    stated = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert stated["audit"]["attack"]["canaries"] == 100


def test_a_hostile_word_of_an_audit_is_shown_as_text(run: Path, tmp_path: Path) -> None:
    word = "<script>alert(1)</script>|[x](javascript:1)\u202e`a"
    check = dataclasses.replace(TEST, name=word, expected=word)
    state(run, conformance=StatedConformance((check,), (word,)))

    write_run_report(collect(read_run(run)), tmp_path / "report")

    for name in ("report.html", "report.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert "alert(1)" in text
        assert "<script" not in text.replace("\\<", "")
        assert "\u202e" not in text
    assert "[x](javascript" not in text
    (line,) = [each for each in text.splitlines() if each.startswith("| Not checked")]
    assert line.replace("\\|", "").count("|") == 3


def test_a_report_says_that_there_is_no_audit(run: Path, tmp_path: Path) -> None:
    write_run_report(collect(read_run(run)), tmp_path / "report")

    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "None lies beside the run" in text
    assert '"audit": null' in (tmp_path / "report" / "report.json").read_text(encoding="utf-8")


def test_an_attack_costs_a_run_more(run: Path, tmp_path: Path) -> None:
    state(run)
    alone = published(run).certificate

    both = with_attack(alone, attack(run)).epsilon(1e-5)

    assert both > 1.2 * alone.epsilon(1e-5)
    write_run_report(collect(read_run(run)), tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    line = next(each for each in text.splitlines() if "attacked one together" in each)
    assert float(line.split("epsilon = ")[1].split(" ")[0]) >= both


FOREIGN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "other settings": lambda _: {"settings": "0f" * 32},
    "certificate of another run": lambda _: {"certificate": "0f" * 32},
    "other software": lambda _: {"versions": {"dpft": "0.0.1"}},
    "not a repetition": lambda run: {
        "attack": attack(run, mechanism=PoissonGaussian(2.5, 0.1, 30))
    },
    "name of a run": lambda run: {"attack": attack(run, run_id=own(run).run_id)},
    "another claimed": lambda run: {
        "attack": dataclasses.replace(attack(run), trace=bounds(trace=True, claimed=9.0))
    },
    "another attainable": lambda run: {
        "attack": dataclasses.replace(attack(run), published=bounds(trace=True))
    },
    "another ceiling": lambda run: {
        "attack": dataclasses.replace(attack(run), trace=bounds(trace=True, ceiling=9.0))
    },
    "bounds at a delta above that of the run": lambda run: {
        "attack": dataclasses.replace(attack(run), trace=bounds(trace=True, delta=0.5))
    },
    "at most 100000 canaries": lambda run: {
        "attack": dataclasses.replace(attack(run), canaries=2**62)
    },
}


def own(run: Path) -> RunRecord:
    return published(run).certificate.runs[0]


@pytest.mark.parametrize("wrong", FOREIGN)
def test_an_audit_of_something_else_is_refused(wrong: str, shared: Path, tmp_path: Path) -> None:
    found = problems(shared, tmp_path / AUDIT, **FOREIGN[wrong](shared))

    assert len(found) == 1
    assert wrong in found[0]


def test_an_audit_of_the_run_before_is_not_of_this_one(shared: Path, tmp_path: Path) -> None:
    """What a run started from had other software and another mechanism of its own."""
    before = Certificate((own(shared),))
    later = dataclasses.replace(
        own(shared),
        run_id="e" * 32,
        inputs=(before.as_input("before", InputRole.ADAPTER),),
        mechanism=PoissonGaussian(3.0, 0.1, 30),
        versions={"dpft": "9.9.9"},
    )
    both = dataclasses.replace(published(shared), certificate=before.with_release(later))
    (tmp_path / AUDIT).write_text(
        statement(shared, certificate=both.digest).to_json() + "\n", encoding="utf-8"
    )

    found = audit_problems(tmp_path / AUDIT, both, digest_of_settings(shared / "config.yaml"))

    assert found == [
        "it judged other software than this run had",
        "the attacked run is not a repetition of this one",
    ]


def test_an_attacked_run_of_endless_steps_is_not_computed() -> None:
    with pytest.raises(ConfigurationError, match="steps=4611686018427387904"):
        final_epsilon(PoissonGaussian(2.0, 0.1, 2**62), DELTA)


def test_an_audit_of_something_else_gives_no_report(run: Path) -> None:
    state(run, settings="0f" * 32)

    assert failed(run) == {"audit"}
    with pytest.raises(BrokenGuaranteeError, match="audit: it judged other settings"):
        read_run(run)


def test_an_edited_audit_is_refused(shared: Path, tmp_path: Path) -> None:
    text = statement(shared).to_json().replace('"found":1.0', '"found":1.1')

    (problem,) = problems(shared, tmp_path / AUDIT, text + "\n")
    assert "was edited" in problem


def test_an_audit_in_another_layout_is_refused(shared: Path, tmp_path: Path) -> None:
    text = json.dumps(json.loads(statement(shared).to_json()), indent=1)

    assert problems(shared, tmp_path / AUDIT, text) == ["not in canonical form"]


def test_an_audit_before_the_run_names_no_certificate(shared: Path, tmp_path: Path) -> None:
    assert not problems(shared, tmp_path / AUDIT, certificate=None)


def test_an_audit_of_a_run_whose_settings_no_digest_covers_is_refused(
    shared: Path, tmp_path: Path
) -> None:
    (tmp_path / AUDIT).write_text(statement(shared).to_json() + "\n", encoding="utf-8")

    assert audit_problems(tmp_path / AUDIT, published(shared), None)


def test_what_an_audit_found_against_a_run_gives_no_report(run: Path) -> None:
    state(run, conformance=StatedConformance((dataclasses.replace(TEST, passed=False),)))

    with pytest.raises(BrokenGuaranteeError, match="audit: noise: variance"):
        read_run(run)


def test_a_bound_above_the_claim_is_found_against_a_run(shared: Path, tmp_path: Path) -> None:
    refuted = dataclasses.replace(attack(shared), trace=bounds(trace=True, independent=50.0))

    found = problems(shared, tmp_path / AUDIT, attack=refuted)

    assert found == ["a lower bound is above the claimed epsilon"]


def test_an_attack_that_no_ledger_charged_is_not_stated(shared: Path) -> None:
    with pytest.raises(ConfigurationError, match="nobody was charged"):
        attack(shared, ledger=None)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda fields: fields.update(format_version=2), "format_version"),
        (lambda fields: fields.update(more=1), "exactly the fields"),
        (lambda fields: fields.update(versions=["dpft"]), "versions"),
        (lambda fields: fields.update(settings_sha256="abc"), "settings"),
        (lambda fields: fields.update(attack=None, conformance=None), "of some mode"),
        (lambda fields: fields["conformance"].update(checks={}), "checks"),
        (lambda fields: fields["conformance"].update(checks=[]), "at least one"),
        (lambda fields: fields["conformance"].update(skipped=[1]), "skipped"),
        (lambda fields: fields["conformance"]["checks"][0].update(found=None), "without a number"),
        (lambda fields: fields["conformance"]["checks"][0].update(passed="yes"), "check.passed"),
        (lambda fields: fields["attack"]["trace"].update(one_run=60.0), "below its ceiling"),
        (lambda fields: fields["attack"]["trace"].update(delta=None), "finite number"),
    ],
)
def test_a_malformed_audit_is_refused(
    change: Callable[[dict[str, Any]], None], part: str, shared: Path
) -> None:
    fields = json.loads(statement(shared).to_json())
    fields.pop("sha256")
    change(fields)
    text = canonical(fields | {"sha256": digest_of(canonical(fields))})

    with pytest.raises(ConfigurationError, match=part):
        AuditStatement.from_json(text)


def test_a_statement_is_read_as_it_was_written(shared: Path) -> None:
    assert AuditStatement.from_json(statement(shared).to_json()) == statement(shared)
