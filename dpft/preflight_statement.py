"""What a run states of the time before its first step: the checks, and its settings file.

It lies beside the weights as `preflight.json`, and the certificate names its digest. The settings
file is named by digest too, or not at all where a run was made in Python and has none. No torch.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from dpft.accounting.canonical_json import canonical, digest_of, exactly, is_digest, misfit, parsed
from dpft.errors import ConfigurationError
from dpft.report import Preflight

__all__ = ["PREFLIGHT", "PreflightStatement", "StatedCheck", "digest_of_settings"]

PREFLIGHT = "preflight.json"
_FORMAT_VERSION = 1
_FIELDS = ("checks", "format_version", "settings_sha256")


@dataclasses.dataclass(frozen=True)
class StatedCheck:
    """One check before the first step.

    Args:
        name: What was checked.
        value: What was found, on synthetic records.
        tolerance: Largest value that passes.
        passed: Whether it passed.

    Privacy:
        Nothing, no data touched.
    """

    name: str
    value: float
    tolerance: float
    passed: bool


@dataclasses.dataclass(frozen=True)
class PreflightStatement:
    """The checks before the first step, and which settings file the run had.

    Args:
        checks: In order; None where the run was not private and nothing was checked.
        settings: SHA-256 of config.yaml, None if the run has none.

    Privacy:
        Nothing, no data touched: synthetic records, and public settings.
    """

    checks: tuple[StatedCheck, ...] | None
    settings: str | None

    @classmethod
    def of(cls, preflight: Preflight | None, settings: Path) -> "PreflightStatement":
        """State what a run found.

        Args:
            preflight: Its checks, None where there were none.
            settings: Where its settings file lies, if it has one.

        Privacy:
            Nothing, no data touched.
        """
        found = None if preflight is None else tuple(map(_stated, preflight.checks))
        return cls(found, digest_of_settings(settings))

    def to_json(self) -> str:
        """Write the statement: equal statements give equal text.

        Privacy:
            Nothing, no data touched.
        """
        checks = None if self.checks is None else [vars(check) for check in self.checks]
        values = (checks, _FORMAT_VERSION, self.settings)
        return canonical(dict(zip(_FIELDS, values, strict=True)))

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`, the one that a certificate names."""
        return digest_of(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> "PreflightStatement":
        """Read what `to_json` wrote.

        Args:
            text: Content of the file.

        Raises:
            ConfigurationError: If it is of another version or form.

        Privacy:
            Nothing, no data touched.
        """
        values = exactly("preflight", parsed("preflight", text), _FIELDS)
        version, settings, checks = (values[name] for name in _FIELDS[1:] + _FIELDS[:1])
        if version != _FORMAT_VERSION:
            raise ConfigurationError(misfit("format_version", version, f"{_FORMAT_VERSION}"))
        if settings is not None and not is_digest(settings):
            raise ConfigurationError(misfit("settings_sha256", settings, "a SHA-256 or null"))
        if checks is not None and not isinstance(checks, list):
            raise ConfigurationError(misfit("checks", checks, "a list or null"))
        return cls(None if checks is None else tuple(map(_read, checks)), settings)


def digest_of_settings(path: Path) -> str | None:
    """Return the SHA-256 of a settings file, None if there is none.

    Args:
        path: Where it may lie.

    Privacy:
        Nothing, no data touched: settings are public.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _stated(check: Any) -> StatedCheck:
    return StatedCheck(check.name, float(check.value), float(check.tolerance), bool(check.passed))


def _read(fields: object) -> StatedCheck:
    values = exactly("check", fields, [field.name for field in dataclasses.fields(StatedCheck)])
    kinds = {"name": str, "passed": bool, "value": int | float, "tolerance": int | float}
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise ConfigurationError(misfit(f"check.{name}", values[name], "of its type"))
    return StatedCheck(**values)
