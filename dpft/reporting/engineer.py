"""The second page of a report: what an engineer needs to repeat and to judge a run."""

from dpft.reporting.audits import audit_in_full
from dpft.reporting.facts import Facts
from dpft.reporting.given import given
from dpft.reporting.kinds import Kind
from dpft.reporting.metrics import Figure
from dpft.reporting.section import Page, Section, Table

__all__ = ["engineer_page"]


def engineer_page(facts: Facts) -> Page:
    """Return the page for an engineer.

    Args:
        facts: What the report states.

    Privacy:
        Released values and given names.
    """
    course = (
        "Epsilon after each part of the run, from above; the last value is that of the guarantee."
    )
    figure = Section(title="Epsilon over the steps", texts=(course,), figure="by_step")
    return Page(
        "For the engineer",
        (
            _metrics(facts),
            _length(facts),
            *([figure] if facts.by_step else []),
            *audit_in_full(facts),
            _settings(facts),
            _weights(facts),
            _versions(facts),
        ),
    )


def _metrics(facts: Facts) -> Section:
    if facts.sources.kind is Kind.PYTHON:
        return Section(title="Metrics", texts=("None: made in Python, where none are written.",))
    if not facts.figures:
        return Section(title="Metrics", texts=("None was released.",))
    head = ("metric", "value", "interval", "interval of", "privacy")
    split = f"{facts.sources.metrics.get('task')}, {facts.sources.metrics.get('split')}"
    texts = (f"{split}. No interval accounts for the noise of the training.",)
    return Section(title="Metrics", texts=texts, table=Table(head, tuple(map(_row, facts.figures))))


def _settings(facts: Facts) -> Section:
    if facts.sources.kind is Kind.PYTHON:
        text = (
            "Made in Python; no settings file. What enters the guarantee stands in the certificate."
        )
        return Section(title="Settings", texts=(text,))
    return Section(title="Settings", table=Table((), facts.settings))


def _row(figure: Figure) -> tuple[str, ...]:
    has_interval = figure.lower is not None and figure.upper is not None
    ends = f"{figure.lower:.4g} to {figure.upper:.4g}" if has_interval else "none"
    return figure.name, f"{figure.value:.4g}", ends, figure.interval_of, figure.status


def _length(facts: Facts) -> Section:
    speed = facts.sources.metrics.get("examples_per_second")
    said = "not measured" if speed is None else f"{speed:.4g} (expected batch × steps / wall time)"
    rows = (("Records per second", said), *facts.sources.statement.interruptions.items())
    return Section(title="Speed and interruptions", table=Table((), rows))


def _weights(facts: Facts) -> Section:
    sources = facts.sources
    rows = [
        ("Adapter, tensors (SHA-256)", sources.publication.tensors),
        ("Certificate (SHA-256)", sources.publication.digest),
        ("Base model (SHA-256)", sources.base_model or "not stated"),
        *(
            (f"Started from {given(each.name)}", each.certificate or each.status.value)
            for each in facts.run.inputs
        ),
        ("Run", facts.run.run_id),
    ]
    return Section(title="Weights", table=Table((), tuple(rows)))


def _versions(facts: Facts) -> Section:
    found = facts.sources.environment
    rows = [
        ("Python", found["python"]),
        ("Platform", found["platform"]),
        ("Commit", found["commit"] or "not known"),
        *sorted(facts.run.versions.items()),
    ]
    return Section(title="Versions", table=Table((), tuple(rows)))
