"""What the report of a run states, in numbers: the source of its HTML, Markdown and JSON."""

import dataclasses
from pathlib import Path

from dpft.accounting import Certificate, RunRecord
from dpft.reporting.courses import Points, epsilon_by_step
from dpft.reporting.guarantee import Guarantee
from dpft.reporting.ledger_position import LedgerPosition, ledger_position
from dpft.reporting.metrics import Figure, figures_of
from dpft.reporting.settings import public_settings
from dpft.reporting.sources import Sources

__all__ = ["Facts", "collect"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a report states.

    Args:
        sources: What the files of the run say.
        guarantee: What its certificate guarantees.
        by_step: Pairs (step, epsilon).
        settings: Names and values of the settings, without places of files.
        figures: The metrics.
        ledger: Position in the ledger, None if none was named.

    Privacy:
        Released values, and functions of them.
    """

    sources: Sources
    guarantee: Guarantee
    by_step: Points
    settings: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    ledger: LedgerPosition | None

    @property
    def certificate(self) -> Certificate:
        """All runs that epsilon counts."""
        return self.sources.certificate

    @property
    def run(self) -> RunRecord:
        """The run itself."""
        return self.sources.run

    @property
    def epsilon(self) -> float:
        """What all runs spent, as the certificate states it."""
        return self.sources.claim.epsilon

    @property
    def delta(self) -> float:
        """The delta of the plan."""
        return self.sources.claim.delta

    @property
    def is_private(self) -> bool:
        """Whether anything is promised."""
        return self.certificate.is_bounded

    @property
    def target(self) -> float | None:
        """Epsilon that was asked for; None where the noise was given instead."""
        found = self.sources.settings.get("privacy", {}).get("epsilon")
        return float(found) if isinstance(found, int | float) else None


def collect(sources: Sources, ledger: Path | None = None) -> Facts:
    """Compute what the report of a run states.

    Args:
        sources: What its files say (`dpft.reporting.reading.read_run`).
        ledger: The ledger that charged the run; unset: the report states the entry alone.

    Returns:
        The facts.

    Raises:
        ConfigurationError: As for `ledger_position`.
        BrokenGuaranteeError: As for `ledger_position`.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched.
    """
    certificate, run, claim = sources.certificate, sources.run, sources.claim
    return Facts(
        sources=sources,
        guarantee=Guarantee.of(sources.publication, claim),
        by_step=epsilon_by_step(certificate, run, claim),
        settings=public_settings(sources.settings),
        figures=figures_of(sources),
        ledger=None if ledger is None else ledger_position(ledger, run, sources.reserved_as),
    )
