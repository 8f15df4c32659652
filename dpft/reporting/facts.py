"""What a report states, in numbers: the one source of its HTML, Markdown and JSON."""

import dataclasses
import math
from pathlib import Path

from dpft.accounting import Certificate, RunRecord
from dpft.accounting.profile import AttackBound
from dpft.reporting.courses import Points, epsilon_by_delta, epsilon_by_step, trade_off
from dpft.reporting.ledger_position import LedgerPosition, ledger_position
from dpft.reporting.metrics import Figure, figures_of
from dpft.reporting.settings import public_settings
from dpft.reporting.sources import Sources, read_sources

__all__ = ["ATTACKED_AT", "Facts", "collect"]

ATTACKED_AT = (0.001, 0.01, 0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a report states.

    Args:
        sources: What the files of the run say.
        attacks: The best that any attacker can reach, by its rate of false alarms.
        by_step: Pairs (step, epsilon).
        by_delta: Pairs (delta, epsilon).
        trade_off: Pairs (false positive rate, true positive rate).
        settings: Names and values of the settings, without places of files.
        figures: The metrics.
        ledger: Position in the ledger, None if none was named.

    Privacy:
        Released values, and functions of them.
    """

    sources: Sources
    attacks: tuple[tuple[float, AttackBound], ...]
    by_step: Points
    by_delta: Points
    trade_off: Points
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
        found = self.sources.settings["privacy"].get("epsilon")
        return float(found) if isinstance(found, int | float) else None


def collect(folder: Path | str, ledger: Path | None = None) -> Facts:
    """Read a run folder and compute what its report states.

    Args:
        folder: Folder written by `dpft train`.
        ledger: The ledger that charged the run; unset: the report states the entry alone.

    Returns:
        The facts.

    Raises:
        ConfigurationError: As for `read_sources` and `ledger_position`.
        BrokenGuaranteeError: As for `read_sources` and `ledger_position`.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched.
    """
    sources = read_sources(folder)
    certificate, run, claim = sources.certificate, sources.run, sources.claim
    is_private = math.isfinite(claim.epsilon)
    return Facts(
        sources=sources,
        attacks=tuple((rate, certificate.attack_bound(rate, claim.delta)) for rate in ATTACKED_AT),
        by_step=epsilon_by_step(certificate, run, claim),
        by_delta=epsilon_by_delta(certificate, claim) if is_private else (),
        trade_off=trade_off(certificate, claim.delta),
        settings=public_settings(sources.settings),
        figures=figures_of(sources),
        ledger=None if ledger is None else ledger_position(ledger, run, sources.reserved_as),
    )
