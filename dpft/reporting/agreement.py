"""Compares what the files of a run say twice; none of them is believed alone. No torch in here."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dpft.accounting.run_record import SelectionStatus
from dpft.held_out import metric_id
from dpft.privacy import EvaluationStatus
from dpft.rendering import rounded_up
from dpft.reporting.sources import Sources

__all__ = ["disagreements"]

_TOLERANCE = 1e-9  # of numbers that were copied from one file to another


def disagreements(sources: Sources) -> list[str]:
    """Return what the files of a run contradict each other in.

    Args:
        sources: What they say.

    Returns:
        One sentence for each contradiction; metrics that nobody paid for are among them.

    Privacy:
        Nothing, no data touched (`test_a_folder_that_was_edited_is_refused`).
    """
    return [*_differences(sources), *_unpaid(sources)]


def _differences(sources: Sources) -> Iterator[str]:
    run, epsilon = sources.run, sources.claim.epsilon
    known = {
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "delta": run.delta,
        "dataset_id": run.dataset_id,
        "accountant": run.accountant,
        "adjacency": run.adjacency.value,
        "num_records": run.num_records,
        "expected_batch_size": run.expected_batch_size,
    }
    for name, value in known.items():
        if not _same(sources.metrics.get(name, value), value):
            yield f"metrics.json says {name}={sources.metrics[name]!r}, the certificate {value!r}"
    asked = sources.settings.get("privacy", {})
    for name in ("delta", "dataset_id", "clip_norm", "accountant"):
        if asked.get(name) is not None and not _same(asked[name], getattr(run, name)):
            yield f"config.yaml says {name}={asked[name]!r}, the certificate {getattr(run, name)!r}"
    if _present(sources.environment["versions"]) != dict(run.versions):
        yield "environment.json and the certificate name different versions"
    yield from _misstatements(sources)


def _misstatements(sources: Sources) -> Iterator[str]:
    """Compare the report that the run wrote with the certificate."""
    statement, run = sources.statement, sources.run
    if statement.is_private != sources.certificate.is_bounded:
        yield "report.md and the certificate differ in whether anything is promised"
    if sources.preflight is not None and statement.checks != sources.checks:
        yield "report.md and preflight.json name different checks before the first step"
    for name, said in {
        "Guarantee": _guarantee(sources),
        "Sampler": " ".join(run.sampler.split()),
        "Randomness of sampling and noise": " ".join(run.generator.split()),
    }.items():
        if statement.rows.get(name) != said:
            yield f"report.md says {name}={statement.rows.get(name)!r}, the certificate {said!r}"


def _guarantee(sources: Sources) -> str:
    if not sources.certificate.is_bounded:
        return "none: epsilon is infinite"
    spent = rounded_up(sources.claim.epsilon)
    return f"**epsilon = {spent} at delta = {sources.claim.delta:.3g}**"


def _unpaid(sources: Sources) -> Iterator[str]:
    """Look for metrics that are neither public nor noisy and charged."""
    run, statuses = sources.run, sources.metrics["metric_status"]
    names = {each.run_id for each in sources.certificate.runs}
    is_charged = metric_id(run.run_id) in names or run.selection is SelectionStatus.ACCOUNTED
    for name in sources.metrics["metrics"]:
        status = statuses.get(name, {}).get("status")
        if status == EvaluationStatus.NOISY.value and is_charged:
            continue
        if status != EvaluationStatus.PUBLIC.value:
            yield f"metric {name} is {status or 'of no status'}, and the certificate charges none"


def _present(versions: Mapping[str, Any]) -> dict[str, Any]:
    return {name: version for name, version in versions.items() if version}


def _same(found: object, known: object) -> bool:
    if isinstance(found, float) and isinstance(known, float):
        return math.isclose(found, known, rel_tol=_TOLERANCE)
    return found == known
