"""Reads the folder of a finished run: what each of its files says. No torch in here."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpft.accounting import Certificate, Publication, RunRecord
from dpft.accounting.bounded_files import bounded_text
from dpft.accounting.canonical_json import parsed
from dpft.accounting.publication import Claim
from dpft.audit_comparison import read_audit
from dpft.audit_statement import AUDIT, AuditStatement
from dpft.charges import fingerprint_of, origin_of
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.held_out import metric_id
from dpft.plain_yaml import plain_yaml
from dpft.preflight_statement import PREFLIGHT, PreflightStatement
from dpft.reporting.guarantee import claim_at
from dpft.reporting.kinds import Kind, kind_of
from dpft.reporting.statement import Statement, read_statement
from dpft.run_folder import RunFolder
from dpft.verification import verify

__all__ = ["Sources", "read_sources", "require_certified"]

_OF_METRICS = ("metrics", "metric_status", "epsilon", "delta", "dataset_id", "accountant")
_OF_ENVIRONMENT = ("python", "platform", "versions", "commit")
_OF_SETTINGS = ("adapter", "privacy", "task")
_BASE_MODEL = "base model"
_OF_PYTHON = ("environment.json", "report.md")
_NO_METRICS: Mapping[str, Any] = {"metrics": {}, "metric_status": {}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """What the files of one run say.

    Args:
        kind: What made the folder.
        folder: The run folder.
        publication: Its certificate, verified.
        run: The run itself, among those of the certificate.
        claim: The guarantee of all runs, at the delta of the plan.
        metrics: Content of metrics.json; without any metric where there is no such file.
        environment: Content of environment.json.
        settings: Content of config.yaml; empty where there is no such file.
        statement: What report.md says.
        preflight: What preflight.json says; None where the certificate names no digest of it.
        audit: What audit.json says, which `verify` compared with the run; None without one.
        reserved_as: Name of the run in its ledger, None if it is not known.
        base_model: Digest of the base model's weights, None if it is not known.

    Privacy:
        Released values only.
    """

    kind: Kind
    folder: RunFolder
    publication: Publication
    run: RunRecord
    claim: Claim
    metrics: Mapping[str, Any]
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    statement: Statement
    preflight: PreflightStatement | None
    audit: AuditStatement | None
    reserved_as: str | None
    base_model: str | None

    @property
    def certificate(self) -> Certificate:
        """All runs that the guarantee counts."""
        return self.publication.certificate

    @property
    def name(self) -> str:
        """Last part of the folder's place."""
        return self.folder.path.resolve().name

    @property
    def checks(self) -> tuple[tuple[str, ...], ...]:
        """Name, value, tolerance and verdict of each check before the first step."""
        if self.preflight is None:
            return self.statement.checks
        return tuple(
            (
                " ".join(check.name.split()),
                f"{check.value:.3g}",
                f"{check.tolerance:.3g}",
                "pass" if check.passed else "FAIL",
            )
            for check in self.preflight.checks or ()
        )


def read_sources(path: Path | str) -> Sources:
    """Read the folder of a finished run.

    Args:
        path: Folder written by `dpft train` or `dpft.fit`.

    Returns:
        What its files say; whether they agree is asked by `dpft.reporting.reading`.

    Raises:
        ConfigurationError: If the run did not finish, or a file is of another version.
        BrokenGuaranteeError: If the certificate does not hold for the weights beside it.

    Privacy:
        Nothing, no data touched.
    """
    kind = kind_of(Path(path))
    folder = _opened(Path(path), kind)
    require_certified(folder.path)
    publication = Publication.from_json(bounded_text(folder.certificate))
    run = _own_run(publication.certificate)
    has_settings = kind is Kind.RUN
    return Sources(
        kind=kind,
        folder=folder,
        publication=publication,
        run=run,
        claim=claim_at(publication, run.delta),
        metrics=_mapping(folder.metrics, _OF_METRICS) if has_settings else _NO_METRICS,
        environment=_mapping(folder.path / "environment.json", _OF_ENVIRONMENT),
        settings=_settings(folder.config) if has_settings else {},
        statement=read_statement(bounded_text(folder.report)),
        preflight=_preflight(folder, publication),
        audit=_audit(folder),
        reserved_as=_reserved_as(folder),
        base_model=_base_model(folder),
    )


def _opened(path: Path, kind: Kind) -> RunFolder:
    if kind is Kind.RUN:
        return RunFolder.open(path)
    folder = RunFolder(path)
    if folder.metrics.exists():
        raise ConfigurationError(
            f"Expected {folder.metrics} to be absent. The run states that it was made in Python, "
            "where no metrics are written. Take the folder as the run wrote it."
        )
    missing = [name for name in _OF_PYTHON if not (path / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"Expected run={path} to hold {', '.join(missing)}. The run did not finish. Name the "
            "folder of a finished run, or train again."
        )
    return folder


def _preflight(folder: RunFolder, publication: Publication) -> PreflightStatement | None:
    """Read the file that `verify` compared with the certificate just now."""
    if publication.preflight is None:
        return None
    stated = PreflightStatement.from_json(bounded_text(folder.adapter / PREFLIGHT))
    assert stated.digest == publication.preflight, "verified"
    return stated


def _audit(folder: RunFolder) -> AuditStatement | None:
    path = folder.path / AUDIT
    return read_audit(path) if path.exists() else None


def require_certified(folder: Path) -> None:
    """Raise unless every claim of a certificate holds for what lies beside it.

    Args:
        folder: Folder of a run or of a merge.

    Raises:
        BrokenGuaranteeError: If one does not.

    Privacy:
        Nothing, no data touched.
    """
    failed = [each for each in verify(folder) if not each.passed]
    if failed:
        found = "; ".join(f"{each.check}: {each.found}" for each in failed)
        raise BrokenGuaranteeError(
            f"Expected run={folder} to be as it was published ({found}). A report would "
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


def _mapping(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    read = parsed if path.suffix == ".json" else plain_yaml
    try:
        found = read(path.name, bounded_text(path))
    except ConfigurationError:
        found = None
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
    digest = fingerprint_of(folder.charges).get(_BASE_MODEL)
    return digest if isinstance(digest, str) else None
