"""Opens the folder of a finished run, and refuses it unless all of its files say the same."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dpft.accounting import Certificate, Publication, RunRecord
from dpft.accounting.publication import Claim
from dpft.accounting.run_record import SelectionStatus
from dpft.charges import origin_of
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.held_out import metric_id
from dpft.privacy import EvaluationStatus
from dpft.rendering import rounded_up
from dpft.reporting.statement import Statement, read_statement
from dpft.run_folder import RunFolder
from dpft.verification import verify

__all__ = ["Sources", "read_sources"]

_TOLERANCE = 1e-9  # of numbers that were copied from one file to another
_OF_METRICS = ("metrics", "metric_status", "epsilon", "delta", "dataset_id", "accountant")
_OF_ENVIRONMENT = ("python", "platform", "versions", "commit")
_OF_SETTINGS = ("adapter", "privacy", "task")
_BASE_MODEL = "base model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """What the files of one run say.

    Args:
        folder: The run folder.
        publication: Its certificate, verified.
        run: The run itself, among those of the certificate.
        claim: The guarantee of all runs, at the delta of the plan.
        metrics: Content of metrics.json.
        environment: Content of environment.json.
        settings: Content of config.yaml.
        statement: What report.md says.
        reserved_as: Name of the run in its ledger, None if it is not known.
        base_model: Digest of the base model's weights, None if it is not known.

    Privacy:
        Released values only.
    """

    folder: RunFolder
    publication: Publication
    run: RunRecord
    claim: Claim
    metrics: Mapping[str, Any]
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    statement: Statement
    reserved_as: str | None
    base_model: str | None

    @property
    def certificate(self) -> Certificate:
        """All runs that the guarantee counts."""
        return self.publication.certificate


def read_sources(path: Path | str) -> Sources:
    """Read the folder of a finished run.

    Args:
        path: Folder written by `dpft train`.

    Returns:
        What its files say.

    Raises:
        ConfigurationError: If the run did not finish, or a file is of another version.
        BrokenGuaranteeError: If the certificate does not hold for the weights beside it, or two
            files disagree.

    Privacy:
        Nothing, no data touched. A file that was edited gives no report
        (`test_a_folder_that_was_edited_is_refused`), and neither does a metric of private records
        without noise (`test_a_metric_that_is_neither_public_nor_noisy_is_refused`).
    """
    folder = RunFolder.open(path)
    _require_certified(folder)
    publication = Publication.from_json(folder.certificate.read_text(encoding="utf-8"))
    run = _own_run(publication.certificate)
    sources = Sources(
        folder=folder,
        publication=publication,
        run=run,
        claim=_claim(publication, run),
        metrics=_mapping(folder.metrics, _OF_METRICS),
        environment=_mapping(folder.path / "environment.json", _OF_ENVIRONMENT),
        settings=_settings(folder.config),
        statement=read_statement(folder.report.read_text(encoding="utf-8")),
        reserved_as=_reserved_as(folder),
        base_model=_base_model(folder),
    )
    _require_agreement(sources)
    return sources


def _require_certified(folder: RunFolder) -> None:
    failed = [each for each in verify(folder.path) if not each.passed]
    if failed:
        found = "; ".join(f"{each.check}: {each.found}" for each in failed)
        raise BrokenGuaranteeError(
            f"Expected run={folder.path} to be as it was published ({found}). A report would "
            "promise what nobody certified. Take the folder as the run wrote it, with the version "
            "of dpft that wrote it."
        )


def _own_run(certificate: Certificate) -> RunRecord:
    """Return the run that started from all others."""
    begun = {name for run in certificate.runs for each in run.inputs for name in each.runs}
    measured = {metric_id(run.run_id) for run in certificate.runs}
    last = [run for run in certificate.runs if run.run_id not in begun | measured]
    if len(last) != 1:
        raise BrokenGuaranteeError(
            f"Expected runs={[run.run_id for run in last]} to be one that started from all others. "
            "Which one this folder is of cannot be told. Name the folder of a single run."
        )
    return last[0]


def _claim(publication: Publication, run: RunRecord) -> Claim:
    accountant = publication.certificate.accountant
    found = [
        claim
        for claim in publication.claims
        if claim.delta == run.delta and claim.accountant == accountant
    ]
    if not found:
        raise BrokenGuaranteeError(
            f"Expected claims to state epsilon at delta={run.delta:g} by {accountant}. The number "
            "that was published is not known. Take certificate.json as the run wrote it."
        )
    return found[0]


def _mapping(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    read = json.loads if path.suffix == ".json" else yaml.safe_load
    try:
        found = read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = type(error).__name__
    missing = [name for name in needed if not isinstance(found, Mapping) or name not in found]
    if missing:
        raise ConfigurationError(
            f"Expected {path} to state {', '.join(missing)}. Another version of dpft wrote it, or "
            "it is damaged. Make the report with the version that trained."
        )
    return dict(found)


def _settings(path: Path) -> dict[str, Any]:
    found = _mapping(path, _OF_SETTINGS)
    flat = [name for name in _OF_SETTINGS if not isinstance(found[name], Mapping)]
    if flat:
        raise ConfigurationError(
            f"Expected {path} to hold a group {', '.join(flat)}. It is damaged. Take config.yaml "
            "as the run wrote it."
        )
    return found


def _reserved_as(folder: RunFolder) -> str | None:
    origin = origin_of(folder.charges)
    return None if origin is None else origin.run_id


def _base_model(folder: RunFolder) -> str | None:
    """Return the digest that the first line of the charges names."""
    if not folder.charges.is_file():
        return None
    with folder.charges.open(encoding="utf-8") as lines:
        fingerprint = json.loads(next(lines, "{}")).get("fingerprint", {})
    digest = fingerprint.get(_BASE_MODEL)
    return digest if isinstance(digest, str) else None


def _require_agreement(sources: Sources) -> None:
    problems = [*_differences(sources), *_unpaid(sources)]
    if problems:
        raise BrokenGuaranteeError(
            f"Expected the files of run={sources.folder.path} to agree: {'; '.join(problems)}. "
            "One of them was edited, and a report cannot say which. Take the folder as the run "
            "wrote it."
        )


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
    asked = sources.settings["privacy"]
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
