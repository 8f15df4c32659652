"""What a certificate guarantees, with the lines that are drawn of it."""

import dataclasses
import math
from typing import Self

from dpft.accounting import Certificate
from dpft.accounting.profile import AttackBound
from dpft.accounting.publication import Claim, Publication
from dpft.errors import BrokenGuaranteeError
from dpft.reporting.courses import Points, epsilon_by_delta, trade_off

__all__ = ["ATTACKED_AT", "Guarantee", "claim_at"]

ATTACKED_AT = (0.001, 0.01, 0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What the certificate of one folder guarantees.

    Args:
        publication: The certificate, verified.
        claim: Epsilon at the delta of the plan.
        attacks: The best that any attacker can reach, by its rate of false alarms.
        by_delta: Pairs (delta, epsilon).
        trade_off: Pairs (false positive rate, true positive rate).

    Privacy:
        Released values, and functions of them.
    """

    publication: Publication
    claim: Claim
    attacks: tuple[tuple[float, AttackBound], ...]
    by_delta: Points
    trade_off: Points

    @classmethod
    def of(cls, publication: Publication, claim: Claim) -> Self:
        """Compute the lines of a claim.

        Args:
            publication: The certificate, verified.
            claim: One of its claims.

        Raises:
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched.
        """
        certificate, delta = publication.certificate, claim.delta
        bounded = math.isfinite(claim.epsilon)
        return cls(
            publication=publication,
            claim=claim,
            attacks=tuple((rate, certificate.attack_bound(rate, delta)) for rate in ATTACKED_AT),
            by_delta=epsilon_by_delta(certificate, claim) if bounded else (),
            trade_off=trade_off(certificate, delta),
        )

    @property
    def certificate(self) -> Certificate:
        """All runs that epsilon counts."""
        return self.publication.certificate

    @property
    def epsilon(self) -> float:
        """What all runs spent, as the certificate states it."""
        return self.claim.epsilon

    @property
    def delta(self) -> float:
        """The delta of the plan."""
        return self.claim.delta

    @property
    def is_private(self) -> bool:
        """Whether anything is promised."""
        return self.certificate.is_bounded


def claim_at(publication: Publication, delta: float) -> Claim:
    """Return the claim of a published certificate at the delta of the plan.

    Args:
        publication: The certificate, verified.
        delta: Of the plan.

    Raises:
        BrokenGuaranteeError: If none is stated there by the certificate's own accountant.

    Privacy:
        Nothing, no data touched: the number that was published, and no other.
    """
    accountant = publication.certificate.accountant
    for claim in publication.claims:
        if claim.delta == delta and claim.accountant == accountant:
            return claim
    raise BrokenGuaranteeError(
        f"Expected claims to state epsilon at delta={delta:g} by {accountant}. The number "
        "that was published is not known. Take certificate.json as the run wrote it."
    )
