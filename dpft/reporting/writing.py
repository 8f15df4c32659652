"""Writes the facts of a run as HTML, Markdown and JSON, all of one content."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpft.errors import ConfigurationError
from dpft.explanation import touched_in_words
from dpft.rendering import inline, rounded_up
from dpft.reporting.engineer import engineer_page
from dpft.reporting.facts import Facts
from dpft.reporting.figures import draw, inlined
from dpft.reporting.officer import officer_page
from dpft.reporting.section import Page
from dpft.run_folder import write_whole

__all__ = ["FORMAT_VERSION", "as_json", "write_reports"]

FORMAT_VERSION = 1
_ALTERNATIVES = {
    "by_step": "Epsilon over the steps of the run",
    "by_delta": "Epsilon and delta",
    "trade_off": "What the best attacker detects",
}


def write_reports(facts: Facts, folder: Path) -> tuple[Path, ...]:
    """Write report.html, report.md, report.json and figures/*.svg.

    Args:
        facts: What the reports state.
        folder: Where to; it is made if it is absent. Reports in it are replaced.

    Returns:
        The files of the reports.

    Raises:
        ConfigurationError: If it is the run folder itself, whose report.md is the run's own.

    Privacy:
        Releases the facts. Names are escaped (`test_a_name_with_html_is_text`), and the page loads
        nothing (`test_the_page_loads_nothing_and_runs_nothing`).
    """
    if folder.resolve() == facts.sources.folder.path.resolve():
        raise ConfigurationError(
            f"Expected output={folder} to be another folder than the run's. The report.md in it is "
            "the run's own and is compared with its certificate. Leave --output out, or name a "
            "folder for the reports."
        )
    drawn = draw(facts)
    values = _values(facts, (officer_page(facts), engineer_page(facts)))
    texts = {
        "report.html": _html(values, drawn),
        "report.md": _template("report.md.j2", values | {"figures": drawn}, escaped=False),
        "report.json": json.dumps(as_json(facts), indent=2, allow_nan=False) + "\n",
    }
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, svg in drawn.items():
        write_whole(folder / "figures" / f"{name}.svg", svg)
    for name, text in texts.items():
        write_whole(folder / name, text)
    return tuple(folder / name for name in texts)


def _values(facts: Facts, pages: Sequence[Page]) -> dict[str, Any]:
    return {
        "title": f"Privacy report: {touched_in_words(facts.run)}",
        "lead": _lead(facts),
        "is_private": facts.is_private,
        "pages": pages,
    }


def _lead(facts: Facts) -> str:
    unit = facts.certificate.unit.value
    if not facts.is_private:
        return f"NOT PRIVATE. The weights may reveal any {unit} of the training data."
    return (
        f"epsilon = {rounded_up(facts.epsilon)} at delta = {facts.delta:.3g}, for one {unit}, "
        f"{facts.certificate.adjacency.value.replace('_', '-')}, by {facts.certificate.accountant}."
    )


def _html(values: Mapping[str, Any], drawn: Mapping[str, str]) -> str:
    # drawn by matplotlib from numbers and fixed words: the one thing that is not escaped
    figures = {
        name: Markup(inlined(svg, _ALTERNATIVES[name]))  # noqa: S704
        for name, svg in drawn.items()
    }
    return _template("report.html.j2", {**values, "figures": figures}, escaped=True)


def _template(name: str, values: Mapping[str, Any], *, escaped: bool) -> str:
    environment = Environment(
        loader=PackageLoader("dpft.reporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=escaped,  # noqa: S701 - off for Markdown, where `inline` escapes names
    )
    environment.filters["inline"] = inline
    return environment.get_template(name).render(**values)


def as_json(facts: Facts) -> dict[str, Any]:
    """Return the facts as JSON values; infinity becomes null.

    Args:
        facts: What the report states.

    Privacy:
        Released values.
    """
    certificate, run, sources = facts.certificate, facts.run, facts.sources
    return {
        "format_version": FORMAT_VERSION,
        "private": facts.is_private,
        "epsilon": facts.epsilon if math.isfinite(facts.epsilon) else None,
        "delta": facts.delta,
        "target_epsilon": facts.target,
        "numerical_error": sources.claim.numerical_error,
        "accountant": certificate.accountant,
        "unit": certificate.unit.value,
        "adjacency": certificate.adjacency.value,
        "certificate_sha256": sources.publication.digest,
        "tensors_sha256": sources.publication.tensors,
        "base_model_sha256": sources.base_model,
        "run": run.fields(),
        "earlier_runs": [each.fields() for each in certificate.runs if each != run],
        "attacks": [
            {"false_positive_rate": rate, "true_positive_rate": bound.rate}
            | {"from_curve": bound.from_curve}
            for rate, bound in facts.attacks
        ],
        "epsilon_by_step": facts.by_step,
        "epsilon_by_delta": facts.by_delta,
        "trade_off": facts.trade_off,
        "preflight": sources.statement.checks,
        "interruptions": dict(sources.statement.interruptions),
        "ledger": _ledger(facts),
        "metrics": [vars(figure) for figure in facts.figures],
        "examples_per_second": sources.metrics.get("examples_per_second"),
        "settings": dict(facts.settings),
        "environment": dict(sources.environment),
    }


def _ledger(facts: Facts) -> dict[str, Any] | None:
    if facts.ledger is None:
        return None
    return {
        name: "infinite" if value == math.inf else value
        for name, value in vars(facts.ledger).items()
    }
