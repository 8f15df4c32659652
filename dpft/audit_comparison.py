"""Compares an audit with the run beside which it lies, and computes its claims again. No torch."""

import math
from collections.abc import Iterator
from pathlib import Path

from dpft.accounting import Certificate, PoissonGaussian, RunRecord, UserPoissonGaussian, epsilon
from dpft.accounting.auditing import final_epsilon, one_run_ceiling
from dpft.accounting.bounded_files import bounded_text
from dpft.accounting.publication import Publication
from dpft.audit_statement import AuditStatement, StatedAttack, StatedBounds
from dpft.errors import DpftError

__all__ = [
    "MOST_CANARIES",
    "audit_problems",
    "audited_run",
    "own_runs",
    "read_audit",
    "with_attack",
]

_TOLERANCE = 1e-6
_SAME = ("clip_norm", "clipping", "dataset_id", "delta", "expected_batch_size", "unit")
MOST_CANARIES = 100_000
"""Most canaries of an attack: a stranger may have written the file that is computed again."""


def read_audit(path: Path) -> AuditStatement:
    """Read an audit.

    Args:
        path: The file.

    Raises:
        ConfigurationError: If it was edited, or is of another version or form.

    Privacy:
        Nothing, no data touched.
    """
    return AuditStatement.from_json(bounded_text(path))


def audit_problems(path: Path, publication: Publication, settings: str | None) -> list[str]:
    """Return what speaks against an audit beside a run, or what the audit found against the run.

    Args:
        path: File of the audit.
        publication: Certificate of the run.
        settings: SHA-256 of its settings file, as the run states it; None if it has none.

    Returns:
        One sentence each; empty if the audit is of this run and found nothing.

    Privacy:
        Nothing, no data touched (`tests/dpft/reporting/test_audits.py`).
    """
    try:
        stated = read_audit(path)
        if stated.to_json() + "\n" != bounded_text(path):
            return ["not in canonical form"]
        return [*_foreign(stated, publication, settings), *stated.problems]
    except DpftError as error:
        return [str(error)]


def with_attack(certificate: Certificate, attack: StatedAttack) -> Certificate:
    """Return a certificate that counts the attacked run as well.

    Args:
        certificate: Of the run that was judged.
        attack: What was found.

    Returns:
        What whoever sees both the run and the audit may know of the records.

    Raises:
        ConfigurationError: If the attacked run bears the name of one of the runs.

    Privacy:
        Nothing, no data touched (`test_an_attack_costs_a_run_more`).
    """
    return Certificate((*certificate.runs, attack.run))


def audited_run(certificate: Certificate, attack: StatedAttack) -> RunRecord | None:
    """Return the run that an attacked run repeats, None if there is none.

    Args:
        certificate: Of the run that was judged.
        attack: What was found.

    Privacy:
        Nothing, no data touched.
    """
    return next((run for run in own_runs(certificate) if _repeats(attack.run, run)), None)


def own_runs(certificate: Certificate) -> tuple[RunRecord, ...]:
    """Return the runs that no other of a certificate started from: the one it was written for.

    Args:
        certificate: Of a run.

    Privacy:
        Nothing, no data touched. What is found of an earlier run says nothing of a later one
        (`test_an_audit_of_the_run_before_is_not_of_this_one`).
    """
    begun = {name for run in certificate.runs for each in run.inputs for name in each.runs}
    return tuple(run for run in certificate.runs if run.run_id not in begun)


def _foreign(
    stated: AuditStatement, publication: Publication, settings: str | None
) -> Iterator[str]:
    if settings is None or stated.settings != settings:
        yield "it judged other settings than those of this run"
    if stated.certificate not in {None, publication.digest}:
        yield "it names the certificate of another run"
    versions = [dict(run.versions) for run in own_runs(publication.certificate) if run.versions]
    if dict(stated.versions) not in versions:
        yield "it judged other software than this run had"
    if stated.attack is not None:
        yield from _attack_problems(stated.attack, publication.certificate)


def _attack_problems(attack: StatedAttack, certificate: Certificate) -> Iterator[str]:
    if audited_run(certificate, attack) is None:
        yield "the attacked run is not a repetition of this one"
        return
    if attack.run.run_id in {run.run_id for run in certificate.runs}:
        yield "the attacked run bears the name of a run that was published"
    if attack.canaries > MOST_CANARIES:
        yield f"expected at most {MOST_CANARIES} canaries, got {attack.canaries}"
        return
    if max(attack.trace.delta, attack.published.delta) > attack.run.delta:
        yield "it states bounds at a delta above that of the run"
        return
    claimed = _one_by_one(attack.run)
    for name, bounds in (("trace", attack.trace), ("published", attack.published)):
        wrong = [field for field, value in _again(attack, bounds, claimed, name) if value]
        if wrong:
            yield f"{name} states another {', '.join(wrong)} than follows from the attacked run"


def _again(
    attack: StatedAttack, bounds: StatedBounds, claimed: PoissonGaussian, name: str
) -> Iterator[tuple[str, bool]]:
    """Yield which derived values differ from what they follow from."""
    spent = epsilon(claimed, bounds.delta)
    attainable = spent if name == "trace" else final_epsilon(claimed, bounds.delta)
    known = {
        "claimed": spent,
        "ceiling": one_run_ceiling(attack.canaries, bounds.delta),
        "attainable": attainable,
    }
    for field, value in known.items():
        yield field, not math.isclose(getattr(bounds, field), value, rel_tol=_TOLERANCE)


def _repeats(attacked: RunRecord, run: RunRecord) -> bool:
    if run.mechanism is None or attacked.mechanism is None:
        return False
    if any(getattr(attacked, name) != getattr(run, name) for name in _SAME):
        return False
    known = (PoissonGaussian, UserPoissonGaussian)
    both = isinstance(attacked.mechanism, known) and isinstance(run.mechanism, known)
    return both and _one_by_one(attacked) == _one_by_one(run)


def _one_by_one(run: RunRecord) -> PoissonGaussian:
    """Return what a run does to one record, as canaries are; by name it may cover users."""
    found = run.mechanism
    assert isinstance(found, PoissonGaussian | UserPoissonGaussian), "asked before"
    return PoissonGaussian(found.noise_multiplier, found.sample_rate, found.steps)
