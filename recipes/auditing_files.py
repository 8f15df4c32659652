"""What an audit is of, and the file that says what it found: settings, or a finished run."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from dpft.accounting import Publication, RunRecord
from dpft.accounting.bounded_files import bounded_text
from dpft.audit_comparison import audited_run, own_runs, read_audit
from dpft.audit_statement import (
    AUDIT,
    AuditStatement,
    StatedAttack,
    StatedBounds,
    StatedConformance,
    StatedTest,
)
from dpft.auditing import Verdict
from dpft.auditing.shadow import EpsilonAudit
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.ledger_place import ledger_place
from dpft.recipes.config.composition import (
    compose_config,
    explained,
    settings_from,
    settings_from_yaml,
    yaml_of,
)
from dpft.recipes.config.schema import TrainSettings
from dpft.run_folder import RunFolder, environment, write_whole
from dpft.verification import verify

__all__ = [
    "Subject",
    "refuse_other_ledger",
    "subject_of_run",
    "subject_of_settings",
    "write_attack",
    "write_verdict",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is audited.

    Args:
        settings: The settings.
        digest: SHA-256 of their file, as a run with them writes it.
        folder: Folder by which the ledger is found; that of the run, if it is one.
        place: File that will say what was found; None: none.
        publication: Certificate of the run, None if settings alone are audited.
        before: What an audit of the same run found in another mode.

    Privacy:
        Nothing, no data touched.
    """

    settings: TrainSettings
    digest: str
    folder: Path
    place: Path | None = None
    publication: Publication | None = None
    before: AuditStatement | None = None

    def refuse_repetition(self, *, attack: bool) -> None:
        """Raise if an audit of this mode lies there already.

        Args:
            attack: Whether an attack is to be stated.

        Raises:
            ConfigurationError: If it does; which of two audits counts would be a choice.
        """
        before = self.before
        if before is not None and (before.attack if attack else before.conformance) is not None:
            raise ConfigurationError(
                f"Expected {self.place} to hold no audit of this mode. Which of two is shown would "
                "be a choice. Keep the one that is there, or move it away."
            )


def subject_of_settings(overrides: Sequence[str], place: Path | None) -> Subject:
    """Return the subject of settings without a run.

    Args:
        overrides: As for `dpft train`.
        place: Where to state what is found; a file that does not exist.

    Raises:
        ConfigurationError: If a setting is wrong, or the file exists.

    Privacy:
        Nothing, no data touched.
    """
    if place is not None and place.exists():
        raise ConfigurationError(
            f"Expected output={place} to be absent. An audit is never replaced unseen. Name "
            "another file, or move it away."
        )
    with explained(overrides):
        config = compose_config(overrides)
        settings = settings_from(config)
        OmegaConf.update(config, "run.resume", None)  # as `dpft train` does before it writes them
        text = yaml_of(config)
    folder = Path("runs") / settings.task.name / "audit"
    return Subject(settings=settings, digest=_digest(text), folder=folder, place=place)


def subject_of_run(path: Path) -> Subject:
    """Return the subject of a finished run, whose audit will lie beside its certificate.

    Args:
        path: The run folder.

    Raises:
        ConfigurationError: If it is none, or was made with other software than runs here.
        BrokenGuaranteeError: If its files are not as it published them.

    Privacy:
        Nothing, no data touched (`test_a_run_that_was_edited_is_not_audited`).
    """
    folder = RunFolder.open(path)
    failed = [f"{each.check}: {each.found}" for each in verify(folder.path) if not each.passed]
    if failed:
        raise BrokenGuaranteeError(
            f"Expected run={path} to be as it was published ({'; '.join(failed)}). An audit of "
            "other settings says nothing of it. Take the folder as the run wrote it."
        )
    text = bounded_text(folder.config)
    publication = Publication.from_json(bounded_text(folder.certificate))
    if publication.preflight is None:
        raise ConfigurationError(
            f"Expected run={path} to state its settings in preflight.json. No digest covers its "
            "config.yaml, and what would be audited is not known to be the run's. Train again."
        )
    _refuse_other_software(publication)
    place = folder.path / AUDIT
    return Subject(
        settings=settings_from_yaml(text),
        digest=_digest(text),
        folder=folder.path,
        place=place,
        publication=publication,
        before=read_audit(place) if place.exists() else None,
    )


def refuse_other_ledger(subject: Subject, ledger: str | None) -> None:
    """Raise unless the ledger that would be charged is the one that charged the run.

    Args:
        subject: The run.
        ledger: `privacy.ledger` of its settings.

    Raises:
        ConfigurationError: If it is another.

    Privacy:
        An attack is charged where the run was, or the records would owe less than was released
        (`test_an_attack_is_charged_where_the_run_was`).
    """
    from dpft.accounting.ledger.ledger import Ledger
    from dpft.accounting.ledger.quotation import charged

    if subject.publication is None:
        return
    place = ledger_place(
        dataclasses.replace(subject.settings.privacy, ledger=ledger), subject.folder
    )
    known = place is not None and place.is_file()
    if known and place is not None:
        with Ledger.read(place) as found:
            entries = found.entries()
        runs = subject.publication.certificate.runs
        known = all(run.ledger is None or charged(entries, run) for run in runs)
    if not known:
        raise ConfigurationError(
            f"Expected ledger={place} to be the one that charged the run. The attack would be "
            "charged to a budget that the records' other runs are not in. Name the right one by "
            "DPFT_LEDGER."
        )


def write_verdict(subject: Subject, verdict: Verdict) -> None:
    """State what was found on synthetic records, if it is to be stated.

    Args:
        subject: What was audited.
        verdict: What was found.

    Privacy:
        Of synthetic records.
    """
    tests = tuple(
        StatedTest(
            name=check.name,
            found=check.found if math.isfinite(check.found) else None,
            expected=check.expected,
            passed=check.passed and math.isfinite(check.found),
            p_value=check.p_value,
        )
        for check in verdict.checks
    )
    _write(subject, conformance=StatedConformance(tests, tuple(verdict.skipped)))


def write_attack(subject: Subject, found: EpsilonAudit) -> None:
    """State what an attacked run showed, if it is to be stated.

    Args:
        subject: What was audited.
        found: What was found.

    Raises:
        ConfigurationError: If no ledger charged the attacked run.

    Privacy:
        A function of what the attacked run released, and charged with it.
    """
    trace, published = (
        StatedBounds(**dataclasses.asdict(bounds)) for bounds in (found.trace, found.published)
    )
    attack = StatedAttack(found.canaries, found.run, trace, published)
    if subject.publication is not None:
        repeated = audited_run(subject.publication.certificate, attack)
        assert repeated is not None, "the settings are those of the run"
    _write(subject, attack=attack)


def _write(
    subject: Subject,
    *,
    conformance: StatedConformance | None = None,
    attack: StatedAttack | None = None,
) -> None:
    if subject.place is None:
        return
    before = subject.before
    stated = AuditStatement(
        settings=subject.digest,
        versions=_versions(),
        certificate=None if subject.publication is None else subject.publication.digest,
        conformance=conformance or (before.conformance if before else None),
        attack=attack or (before.attack if before else None),
    )
    subject.place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(subject.place, stated.to_json() + "\n")


def _refuse_other_software(publication: Publication) -> None:
    here = _versions()
    ran = [run for run in own_runs(publication.certificate) if run.versions]
    if any(dict(run.versions) == here for run in ran):
        return
    differing = _differences(ran[-1], here) if ran else ["no version is stated"]
    raise ConfigurationError(
        f"Expected versions={', '.join(differing)} to be those of the run. Another engine would be "
        "judged than the one that ran. Install the versions that its environment.json names."
    )


def _differences(run: RunRecord, here: dict[str, str]) -> list[str]:
    names = sorted({*run.versions, *here})
    return [
        f"{name} {here.get(name)} here, {run.versions.get(name)} there"
        for name in names
        if here.get(name) != run.versions.get(name)
    ]


def _versions() -> dict[str, str]:
    return {name: each for name, each in environment()["versions"].items() if each}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
