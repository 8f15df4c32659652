"""What an audit of a run found: `audit.json`, beside the certificate that it judges. No torch.

The certificate was written before the audit and cannot name it, so the audit names the certificate,
the settings file and the software. Its own digest finds an edit, not a forger: a statement by
whoever publishes it, which anybody repeats with `dpft audit --run`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dpft.accounting import RunRecord
from dpft.accounting.canonical_json import canonical, digest_of, exactly, is_digest, misfit, parsed
from dpft.accounting.rules import count_problems, require
from dpft.errors import ConfigurationError

__all__ = [
    "AUDIT",
    "AuditStatement",
    "StatedAttack",
    "StatedBounds",
    "StatedConformance",
    "StatedTest",
]

AUDIT = "audit.json"
_FORMAT_VERSION = 1
_DIGEST = "sha256"


@dataclasses.dataclass(frozen=True)
class StatedTest:
    """One check of the engine.

    Args:
        name: What was checked.
        found: What was measured; None where it was no finite number.
        expected: What should have been, in words.
        passed: Whether it is as claimed.
        p_value: Of a statistical check, in [0, 1]; None where the check is exact.

    Raises:
        ConfigurationError: If a value is not of its type.

    Privacy:
        Of synthetic records.
    """

    name: str
    found: float | None
    expected: str
    passed: bool
    p_value: float | None = None

    def __post_init__(self) -> None:
        """Check the types; what is no number never passed."""
        kinds = {"name": str, "expected": str, "passed": bool}
        require(
            [
                misfit(f"check.{name}", getattr(self, name), "of its type")
                for name, kind in kinds.items()
                if not isinstance(getattr(self, name), kind)
            ],
            _number_problems("check.found", self.found, may_be_none=True),
            _number_problems("check.p_value", self.p_value, may_be_none=True),
        )
        if self.passed and self.found is None:
            raise ConfigurationError(misfit("check.passed", self.passed, "false without a number"))


@dataclasses.dataclass(frozen=True)
class StatedConformance:
    """What the audit of a configuration on synthetic records found.

    Args:
        checks: In the order in which they were made, at least one.
        skipped: What does not apply to the configuration, and why.

    Raises:
        ConfigurationError: If nothing was checked.

    Privacy:
        Of synthetic records.
    """

    checks: tuple[StatedTest, ...]
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an audit of nothing."""
        wrong = [each for each in self.skipped if not isinstance(each, str)]
        require(
            [] if self.checks else [misfit("checks", self.checks, "at least one")],
            [misfit("skipped", each, "a sentence") for each in wrong],
        )

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that did not pass."""
        return tuple(check.name for check in self.checks if not check.passed)


@dataclasses.dataclass(frozen=True)
class StatedBounds:
    """Lower bounds on epsilon by one attacker, as `dpft.auditing.scores.Bounds`.

    Args:
        claimed: Epsilon of the attacked run at delta.
        delta: At which all of them are.
        one_run: Assumes nothing of the mechanism.
        ceiling: What `one_run` would be if every guess were right.
        independent: Assumes independent canaries and a Gaussian trade-off curve.
        attainable: What this attacker could show with any number of canaries.

    Raises:
        ConfigurationError: If one is not a number, or `one_run` is above its ceiling.

    Privacy:
        Of canaries and public numbers.
    """

    claimed: float
    delta: float
    one_run: float
    ceiling: float
    independent: float
    attainable: float

    def __post_init__(self) -> None:
        """Check the numbers."""
        require(*(_number_problems(f"bounds.{name}", each) for name, each in vars(self).items()))
        if self.one_run > self.ceiling:
            raise ConfigurationError(misfit("bounds.one_run", self.one_run, "below its ceiling"))

    @property
    def refuted(self) -> bool:
        """Whether either bound is above the claim."""
        return max(self.one_run, self.independent) > self.claimed


@dataclasses.dataclass(frozen=True)
class StatedAttack:
    """What an attacked run on the same records let be proved.

    Args:
        canaries: Their number, >= 2.
        run: The attacked run, which spent as much again as the one it repeats.
        trace: Bounds for an attacker who sees every iterate.
        published: Bounds for one who sees the published delta alone.

    Raises:
        ConfigurationError: If no ledger charged the run, or a number is out of range.

    Privacy:
        A release of the attacked run, and covered by its charge: without one it is refused
        (`test_an_attack_that_no_ledger_charged_is_not_stated`).
    """

    canaries: int
    run: RunRecord
    trace: StatedBounds
    published: StatedBounds

    def __post_init__(self) -> None:
        """Refuse what nobody paid for."""
        require(count_problems("canaries", self.canaries))
        if self.run.ledger is None:
            raise ConfigurationError(
                "Expected run.ledger of an attacked run to name an entry. Its bounds are a release "
                "of the records, and nobody was charged. Audit with a ledger."
            )

    @property
    def refuted(self) -> bool:
        """Whether a bound is above the claim."""
        return self.trace.refuted or self.published.refuted


@dataclasses.dataclass(frozen=True)
class AuditStatement:
    """What audits of one configuration found.

    Args:
        settings: SHA-256 of the settings file that was judged.
        versions: Names and versions of the software that was judged.
        certificate: SHA-256 of the certificate of the run that was judged; None where the audit
            came before the run.
        conformance: What was found on synthetic records, if that was asked.
        attack: What an attacked run showed, if that was asked.

    Raises:
        ConfigurationError: If a digest is none, or nothing was audited.

    Privacy:
        Released values and public numbers.
    """

    settings: str
    versions: Mapping[str, str]
    certificate: str | None = None
    conformance: StatedConformance | None = None
    attack: StatedAttack | None = None

    def __post_init__(self) -> None:
        """Check the digests."""
        rule = "a SHA-256 in lower-case hexadecimal digits"
        digests = {"settings": self.settings, "certificate": self.certificate}
        require(
            [
                misfit(name, each, rule)
                for name, each in digests.items()
                if not is_digest(each) and (each is not None or name == "settings")
            ],
            [] if self.conformance or self.attack else [misfit("audit", None, "of some mode")],
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What the audits found against the guarantee, in words; empty if nothing."""
        failed = () if self.conformance is None else self.conformance.failed
        refuted = self.attack is not None and self.attack.refuted
        return (*failed, *(("a lower bound is above the claimed epsilon",) if refuted else ()))

    def to_json(self) -> str:
        """Write the statement: equal statements give equal text.

        Privacy:
            Nothing, no data touched.
        """
        fields = self._fields()
        return canonical({**fields, _DIGEST: digest_of(canonical(fields))})

    def _fields(self) -> dict[str, object]:
        attack = self.attack
        return {
            "attack": None if attack is None else vars(attack) | _attack_fields(attack),
            "certificate_sha256": self.certificate,
            "conformance": None
            if self.conformance is None
            else dataclasses.asdict(self.conformance),
            "format_version": _FORMAT_VERSION,
            "settings_sha256": self.settings,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, text: str) -> "AuditStatement":
        """Read what `to_json` wrote.

        Args:
            text: Content of the file.

        Raises:
            ConfigurationError: If it was edited, or is of another version or form.

        Privacy:
            Nothing, no data touched (`test_an_edited_audit_is_refused`).
        """
        names = ("attack", "certificate_sha256", "conformance", "settings_sha256", "versions")
        values = exactly("audit", parsed("audit", text), (*names, "format_version", _DIGEST))
        stated = values.pop(_DIGEST)
        if values["format_version"] != _FORMAT_VERSION:
            raise ConfigurationError(misfit("format_version", values["format_version"], "1"))
        if digest_of(canonical(values)) != stated:
            raise ConfigurationError(
                f"Expected audit.{_DIGEST}={str(stated)[:16]}… to be the digest of the rest. The "
                "file was edited, and what the audit found is not known. Audit again."
            )
        return cls(
            settings=values["settings_sha256"],
            versions=_versions_in(values["versions"]),
            certificate=values["certificate_sha256"],
            conformance=_conformance_in(values["conformance"]),
            attack=_attack_in(values["attack"]),
        )


def _attack_fields(attack: StatedAttack) -> dict[str, object]:
    bounds = {name: dataclasses.asdict(getattr(attack, name)) for name in ("trace", "published")}
    return {"run": attack.run.fields(), **bounds}


def _conformance_in(fields: object) -> StatedConformance | None:
    if fields is None:
        return None
    values = exactly("conformance", fields, ["checks", "skipped"])
    for name in values:
        if not isinstance(values[name], list):
            raise ConfigurationError(misfit(name, values[name], "a list"))
    names = [field.name for field in dataclasses.fields(StatedTest)]
    checks = (StatedTest(**exactly("check", each, names)) for each in values["checks"])
    return StatedConformance(tuple(checks), tuple(values["skipped"]))


def _attack_in(fields: object) -> StatedAttack | None:
    if fields is None:
        return None
    values = exactly("attack", fields, [field.name for field in dataclasses.fields(StatedAttack)])
    names = [field.name for field in dataclasses.fields(StatedBounds)]
    return StatedAttack(
        canaries=values["canaries"],
        run=RunRecord.from_fields(values["run"]),
        trace=StatedBounds(**exactly("trace", values["trace"], names)),
        published=StatedBounds(**exactly("published", values["published"], names)),
    )


def _versions_in(fields: object) -> dict[str, str]:
    if isinstance(fields, Mapping) and all(isinstance(each, str) for each in fields.values()):
        return dict(fields)
    raise ConfigurationError(misfit("versions", fields, "a mapping from names to versions"))


def _number_problems(name: str, value: Any, *, may_be_none: bool = False) -> list[str]:
    if value is None and may_be_none:
        return []
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [] if is_number and math.isfinite(value) else [misfit(name, value, "a finite number")]
