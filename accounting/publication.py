"""What a published certificate file holds: the runs, what they are of, and numbers for readers.

    {"artefact": {"tensors_sha256": "..."},
     "claims": [{"accountant": "pld", "delta": 1e-5, "epsilon": 2.9, ...}, ...],
     "format_version": 2, "runs": [...]}

The digest of the tensors leaves out the metadata of their file, and those hold the digest of this
file: each names the other, and neither contains itself. Where a run states what it found before
its first step, "artefact" holds a digest of that statement as well ("preflight_sha256").
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping

from dpft.accounting.canonical_json import canonical, digest_of, exactly, is_digest, misfit, parsed
from dpft.accounting.certificate import Certificate
from dpft.accounting.errors import ConfigurationError, DpftError
from dpft.accounting.rules import fraction_problems, require

__all__ = ["Claim", "Publication"]

_FRACTIONS = (0.1, 0.01)  # of the planned delta
_MOST_CLAIMS = 16
_TENSORS, _PREFLIGHT = "tensors_sha256", "preflight_sha256"


@dataclasses.dataclass(frozen=True)
class Claim:
    """Epsilon at one delta, as it was computed when the file was written.

    Args:
        accountant: What computed it.
        delta: In (0, 1).
        epsilon: >= 0; infinite if a run has no bound.
        numerical_error: By how much the accountant's grid may have raised it; None if not stated.

    Privacy:
        Nothing, no data touched. Written for readers, computed again by whoever verifies, and used
        by nobody else (`tests/dpft/test_verification.py`).
    """

    accountant: str
    delta: float
    epsilon: float
    numerical_error: float | None = None

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values; infinity becomes null.

        Privacy:
            Nothing, no data touched.
        """
        finite = self.epsilon if math.isfinite(self.epsilon) else None
        return dataclasses.asdict(self) | {"epsilon": finite}

    @classmethod
    def from_fields(cls, fields: object) -> "Claim":
        """Read what `fields` returned.

        Args:
            fields: Exactly its keys.

        Raises:
            ConfigurationError: If a key is unknown or missing, or a value is no number.

        Privacy:
            Nothing, no data touched.
        """
        values = exactly("claim", fields, [field.name for field in dataclasses.fields(cls)])
        epsilon = math.inf if values["epsilon"] is None else values["epsilon"]
        error = values["numerical_error"]
        require(
            fraction_problems("delta", values["delta"]),
            [] if _is_number(epsilon) else [misfit("epsilon", epsilon, "a number or null")],
            [] if isinstance(values["accountant"], str) else [misfit("accountant", None, "a name")],
            []
            if error is None or _is_number(error)
            else [misfit("numerical_error", error, "a number or null")],
        )
        return cls(values["accountant"], float(values["delta"]), float(epsilon), error)


@dataclasses.dataclass(frozen=True)
class Publication:
    """The content of a published certificate file.

    Args:
        certificate: The runs.
        tensors: SHA-256 of the tensors they made (`dpft.artefact_digest`).
        claims: Epsilon at some deltas.
        preflight: SHA-256 of what the run stated of the time before its first step
            (`dpft.preflight_statement`); None where nothing is stated, as of a merge.

    Raises:
        ConfigurationError: If a digest is none.

    Privacy:
        Nothing, no data touched. The digests are of released tensors and of public facts, never of
        records.
    """

    certificate: Certificate
    tensors: str
    claims: tuple[Claim, ...] = ()
    preflight: str | None = None

    def __post_init__(self) -> None:
        """Check the digests."""
        for name, digest in self._digests().items():
            if not is_digest(digest):
                rule = "a SHA-256 in lower-case hexadecimal digits"
                raise ConfigurationError(misfit(name, digest, rule))

    def _digests(self) -> dict[str, str]:
        given = {} if self.preflight is None else {_PREFLIGHT: self.preflight}
        return {_TENSORS: self.tensors} | given

    @classmethod
    def of(
        cls, certificate: Certificate, tensors: str, delta: float, preflight: str | None = None
    ) -> "Publication":
        """Compute the claims and put everything together.

        Args:
            certificate: The runs.
            tensors: Digest of the tensors.
            delta: The delta of the plan; epsilon is also stated at a tenth and a hundredth of it
                where there is a bound, its numerical error at the delta itself.
            preflight: Digest of what the run stated of the time before its first step, or None.

        Returns:
            What is to be written.

        Raises:
            ConfigurationError: As for `Certificate.epsilon`.

        Privacy:
            Nothing, no data touched.
        """
        error = certificate.numerical_error(delta)
        planned = Claim(certificate.accountant, delta, certificate.epsilon(delta), error)
        smaller = [_claims_at(certificate, delta * fraction) for fraction in _FRACTIONS]
        return cls(certificate, tensors, (planned, *itertools.chain(*smaller)), preflight)

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`: the one that the metadata of the tensors' files hold."""
        return digest_of(self.to_json())

    def to_json(self) -> str:
        """Write the file's content: equal publications give equal text.

        Returns:
            JSON with sorted keys, without spaces or line breaks, in ASCII.

        Privacy:
            Nothing, no data touched.
        """
        own = {
            "artefact": self._digests(),
            "claims": [claim.fields() for claim in self.claims],
        }
        return canonical(own | self.certificate.fields())

    @classmethod
    def from_json(cls, text: str) -> "Publication":
        """Read what `to_json` wrote, in any layout.

        Args:
            text: The file's content.

        Returns:
            A publication equal to the one written.

        Raises:
            ConfigurationError: If the text is no published certificate of the present version.

        Privacy:
            Nothing, no data touched.
        """
        fields = parsed("certificate", text)
        values = exactly("certificate", fields, ["artefact", "claims", "format_version", "runs"])
        artefact = _digests_in(values["artefact"])
        if not isinstance(values["claims"], list) or len(values["claims"]) > _MOST_CLAIMS:
            rule = f"a list of at most {_MOST_CLAIMS}"  # each is computed again by `verify`
            raise ConfigurationError(misfit("claims", values["claims"], rule))
        claims = tuple(Claim.from_fields(claim) for claim in values["claims"])
        made = Certificate.from_fields(fields)
        return cls(made, artefact[_TENSORS], claims, artefact.get(_PREFLIGHT))


def _digests_in(fields: object) -> dict[str, str]:
    """Return the digests of a published file; one that may be absent is never null instead."""
    may_be = {_PREFLIGHT} & set(fields) if isinstance(fields, Mapping) else set()
    found = exactly("artefact", fields, {_TENSORS} | may_be)
    for name in may_be:
        if not is_digest(found[name]):
            raise ConfigurationError(misfit(name, found[name], "a SHA-256, or absent"))
    return found


def _claims_at(certificate: Certificate, delta: float) -> list[Claim]:
    """Return the claim at a delta below the planned one, none where no epsilon is known.

    Opaque releases may have spent so small a delta, and numerical tails hide it: that must not
    cost a finished run its artefact.
    """
    try:
        return [Claim(certificate.accountant, delta, certificate.epsilon(delta))]
    except DpftError:
        return []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
