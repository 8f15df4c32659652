"""What an audit found, check by check."""

import dataclasses
from collections.abc import Sequence

from dpft.accounting.auditing import Finding

__all__ = ["LEVEL", "AuditCheck", "Verdict", "judged", "within"]

LEVEL = 1e-7
"""Probability of a false alarm in one test; a fault of a tenth is far beyond it."""


@dataclasses.dataclass(frozen=True)
class AuditCheck:
    """One thing that was looked at.

    Args:
        name: What was checked, in a few words.
        found: What was measured.
        expected: What should have been, in words.
        passed: Whether it is as claimed.
        p_value: Of a statistical check; None where the check is exact.

    Privacy:
        Of synthetic records.
    """

    name: str
    found: float
    expected: str
    passed: bool
    p_value: float | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """All checks of one audit.

    Args:
        checks: In the order in which they were made.
        skipped: What does not apply to this configuration, and why.

    Privacy:
        Of synthetic records.
    """

    checks: Sequence[AuditCheck]
    skipped: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that did not pass."""
        return [check.name for check in self.checks if not check.passed]


def judged(name: str, finding: Finding, expected: str, *, tests: int = 1) -> AuditCheck:
    """Return the check of a statistical finding.

    Args:
        name: What was checked.
        finding: The worst of so many tests.
        expected: What should have been.
        tests: Number of tests of which it is the worst.
    """
    passed = finding.passes(LEVEL / tests)
    return AuditCheck(name, finding.statistic, expected, passed, finding.p_value)


def within(name: str, found: float, bound: float, expected: str) -> AuditCheck:
    """Return the check that a number, which may be NaN, is at most a bound.

    Args:
        name: What was checked.
        found: The number.
        bound: What it may be.
        expected: The bound in words.
    """
    return AuditCheck(name, found, expected, found <= bound)
