"""The report of one run: two pages, and the same facts as JSON."""

import math
from pathlib import Path
from typing import Any

from dpft.accounting.profile import AttackBound
from dpft.explanation import touched_in_words
from dpft.reporting.audits import audit_as_json
from dpft.reporting.engineer import engineer_page
from dpft.reporting.facts import Facts
from dpft.reporting.guarantee import Guarantee
from dpft.reporting.officer import officer_page
from dpft.reporting.plots import draw_run
from dpft.reporting.promises import guaranteed
from dpft.reporting.section import Document
from dpft.reporting.writing import refuse_inside, write_documents

__all__ = ["FORMAT_VERSION", "guarantee_as_json", "lead", "run_as_json", "write_run_report"]

FORMAT_VERSION = 2


def write_run_report(facts: Facts, folder: Path) -> tuple[Path, ...]:
    """Write report.html, report.md, report.json and figures/*.svg.

    Args:
        facts: What the reports state.
        folder: Where to; it is made if it is absent. Reports in it are replaced.

    Returns:
        The files of the reports.

    Raises:
        ConfigurationError: If it is the run folder itself, whose report.md is the run's own.

    Privacy:
        Releases the facts.
    """
    refuse_inside(folder, [facts.sources.folder.path])
    document = Document(
        stem="report",
        title=f"Privacy report: {touched_in_words(facts.run)}",
        lead=lead(facts.guarantee),
        is_private=facts.is_private,
        pages=(officer_page(facts), engineer_page(facts)),
        drawings=draw_run(facts),
    )
    return write_documents([document], run_as_json(facts), folder)


def lead(guarantee: Guarantee) -> str:
    """Return what a reader has to know first.

    Args:
        guarantee: Of a run or of a merge.

    Privacy:
        Nothing, no data touched.
    """
    certificate = guarantee.certificate
    unit = certificate.unit.value
    if not guarantee.is_private:
        return f"NOT PRIVATE. The weights may reveal any {unit} of the training data."
    return (
        f"{guaranteed(guarantee.epsilon, guarantee.delta)}, for one {unit}, "
        f"{certificate.adjacency.value.replace('_', '-')}, by {certificate.accountant}."
    )


def guarantee_as_json(guarantee: Guarantee) -> dict[str, Any]:
    """Return a guarantee as JSON values; infinity becomes null.

    Args:
        guarantee: Of a run or of a merge.

    Privacy:
        Released values.
    """
    certificate = guarantee.certificate
    return {
        "private": guarantee.is_private,
        "epsilon": guarantee.epsilon if math.isfinite(guarantee.epsilon) else None,
        "delta": guarantee.delta,
        "numerical_error": guarantee.claim.numerical_error,
        "accountant": certificate.accountant,
        "unit": certificate.unit.value,
        "adjacency": certificate.adjacency.value,
        "certificate_sha256": guarantee.publication.digest,
        "tensors_sha256": guarantee.publication.tensors,
        "attacks": [_attack(rate, bound) for rate, bound in guarantee.attacks],
        "epsilon_by_delta": guarantee.by_delta,
        "trade_off": guarantee.trade_off,
    }


def run_as_json(facts: Facts) -> dict[str, Any]:
    """Return the facts of a run as JSON values; infinity becomes null.

    Args:
        facts: What the report states.

    Privacy:
        Released values.
    """
    run, sources = facts.run, facts.sources
    return {
        "format_version": FORMAT_VERSION,
        "kind": sources.kind.value,
        **guarantee_as_json(facts.guarantee),
        "target_epsilon": facts.target,
        "base_model_sha256": sources.base_model,
        "run": run.fields(),
        "earlier_runs": [each.fields() for each in facts.certificate.runs if each != run],
        "epsilon_by_step": facts.by_step,
        "preflight": sources.checks,
        "preflight_is_certified": sources.preflight is not None,
        "audit": audit_as_json(facts),
        "interruptions": dict(sources.statement.interruptions),
        "ledger": _ledger(facts),
        "metrics": [vars(figure) for figure in facts.figures],
        "examples_per_second": sources.metrics.get("examples_per_second"),
        "settings": dict(facts.settings),
        "environment": dict(sources.environment),
    }


def _attack(rate: float, bound: AttackBound) -> dict[str, object]:
    return {
        "false_positive_rate": rate,
        "true_positive_rate": bound.rate,
        "from_curve": bound.from_curve,
    }


def _ledger(facts: Facts) -> dict[str, Any] | None:
    if facts.ledger is None:
        return None
    return {
        name: "infinite" if value == math.inf else value
        for name, value in vars(facts.ledger).items()
    }
