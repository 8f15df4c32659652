"""What a run started from: a base model, an earlier adapter, source prompts, a vocabulary, a head.

What an input holds of private records belongs to the price of the run: it is public, or it has a
certificate whose runs are counted too, or nobody knows and epsilon is infinite.
"""

import dataclasses
from enum import Enum

from dpft.accounting.canonical_json import exactly, is_digest, misfit, text_problems
from dpft.accounting.rules import name_problems, require

__all__ = ["Input", "InputRole", "InputStatus"]


class InputRole(str, Enum):
    """What an input was used as."""

    BASE_MODEL = "base_model"
    ADAPTER = "adapter"
    SOURCE_PROMPT = "source_prompt"
    VOCABULARY = "vocabulary"
    HEAD = "head"
    OTHER = "other"


class InputStatus(str, Enum):
    """What is known of private records in an input.

    `public`: whoever ran it declares that there are none of those protected here. `certified`: a
    certificate says what they cost. `unknown`: nobody knows, so epsilon is infinite.
    """

    PUBLIC = "public"
    CERTIFIED = "certified"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """One thing that a run started from.

    Args:
        name: Its public name; of a folder the last part alone.
        role: What it was used as.
        status: What is known of private records in it.
        certificate: With `certified`, the digest of its certificate: SHA-256 of
            `Certificate.to_json()`. It is computed again from the runs of whoever names it.
        runs: With `certified`, names of all runs of that certificate, sorted.

    Raises:
        ConfigurationError: If a field is out of range, or a certificate is given without the
            status, or the status without a certificate.

    Privacy:
        Nothing, no data touched.
    """

    name: str
    role: InputRole
    status: InputStatus
    certificate: str | None = None
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field, then what certificate and status say together."""
        require(
            text_problems("input.name", self.name),
            name_problems("input.role", self.role, [member.value for member in InputRole]),
            name_problems("input.status", self.status, [member.value for member in InputStatus]),
        )
        object.__setattr__(self, "role", InputRole(self.role))
        object.__setattr__(self, "status", InputStatus(self.status))
        require(self._certificate_problems())

    def _certificate_problems(self) -> list[str]:
        if self.status is not InputStatus.CERTIFIED:
            unset = self.certificate is None and self.runs == ()
            return [] if unset else [misfit("input.certificate", self.certificate, "unset")]
        problems = []
        if not is_digest(self.certificate):
            rule = "a SHA-256 in lower-case hexadecimal digits"
            problems.append(misfit("input.certificate", self.certificate, rule))
        if not _are_names(self.runs):
            rule = "a sorted tuple of at least one name of a run"
            problems.append(misfit("input.runs", self.runs, rule))
        return problems

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values.

        Privacy:
            Nothing, no data touched.
        """
        return {
            "name": self.name,
            "role": self.role.value,
            "status": self.status.value,
            "certificate": self.certificate,
            "runs": list(self.runs),
        }

    @classmethod
    def from_fields(cls, fields: object) -> "Input":
        """Read what `fields` returned.

        Args:
            fields: Exactly its keys.

        Raises:
            ConfigurationError: If a key is unknown or missing, or a value is out of range.

        Privacy:
            Nothing, no data touched.
        """
        values = exactly("input", fields, [field.name for field in dataclasses.fields(cls)])
        if isinstance(values["runs"], list):
            values["runs"] = tuple(values["runs"])
        return cls(**values)


def _are_names(runs: object) -> bool:
    return (
        isinstance(runs, tuple)
        and len(runs) > 0
        and all(isinstance(name, str) and name for name in runs)
        and list(runs) == sorted(set(runs))
    )
