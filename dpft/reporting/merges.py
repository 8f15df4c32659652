"""Reads the folder of a merge: its certificate, and the expression that made it. No torch."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpft.accounting import Certificate
from dpft.accounting.bounded_files import bounded_text
from dpft.accounting.canonical_json import parsed
from dpft.accounting.publication import Claim, Publication
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.explanation import planned_delta
from dpft.reporting.guarantee import claim_at
from dpft.reporting.kinds import EXPRESSION, Kind
from dpft.reporting.sources import require_certified
from dpft.verification import CERTIFICATE

__all__ = ["Merge", "MergedTerm", "read_merge"]

_FORMAT = "dpft-task-vector/1"


@dataclasses.dataclass(frozen=True)
class MergedTerm:
    """One summand of the linear form.

    Args:
        leaf: Digest of its tensors.
        coefficient: As a fraction.
        runs: Names of the runs behind it.
    """

    leaf: str
    coefficient: str
    runs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merge:
    """What the folder of a merge says.

    Args:
        path: The folder.
        publication: Its certificate, verified.
        claim: Epsilon at the delta of the plans.
        family: Kind of adapter.
        base: Name of the base model; may be empty.
        terms: The summands.
        named: Coefficients by the names that the operator gave; empty if none were given.
        made_by: What else was done, in public words and numbers; empty for a saved vector.

    Privacy:
        Released values only. No digest covers expression.json; its runs are those of the
        certificate, or it is refused (`test_an_expression_of_other_runs_is_refused`).
    """

    path: Path
    publication: Publication
    claim: Claim
    family: str
    base: str
    terms: tuple[MergedTerm, ...]
    named: Mapping[str, str]
    made_by: Mapping[str, object]

    @property
    def kind(self) -> Kind:
        """What made the folder."""
        return Kind.MERGE

    @property
    def name(self) -> str:
        """Last part of the folder's place."""
        return self.path.resolve().name

    @property
    def certificate(self) -> Certificate:
        """All runs that the guarantee counts."""
        return self.publication.certificate

    @property
    def formula(self) -> str:
        """The expression by the names that were given, else by digests of the summands."""
        coefficients = self.named or {
            f"[{term.leaf[:12]}]": term.coefficient for term in self.terms
        }
        parts = [_summand(name, coefficient) for name, coefficient in coefficients.items()]
        return " ".join(parts).removeprefix("+ ").strip()


def read_merge(path: Path) -> Merge:
    """Read the folder of a merge.

    Args:
        path: Folder written by `dpft merge`, or by saving a task vector.

    Returns:
        What its files say.

    Raises:
        ConfigurationError: If a file is missing, damaged or of another version.
        BrokenGuaranteeError: If the certificate does not hold for the tensors beside it, or the
            expression names other runs.

    Privacy:
        Nothing, no data touched.
    """
    require_certified(path)
    publication = Publication.from_json(bounded_text(path / CERTIFICATE))
    fields = _fields(path / EXPRESSION)
    made_by = {key: value for key, value in fields["made_by"].items() if key != "expression"}
    merge = Merge(
        path=path,
        publication=publication,
        claim=claim_at(publication, planned_delta(publication.certificate)),
        family=fields["family"],
        base=fields["base"]["name"],
        terms=tuple(map(_term, fields["terms"])),
        named=fields["made_by"].get("expression", {}),
        made_by=made_by,
    )
    _require_same_runs(merge)
    return merge


def _fields(path: Path) -> dict[str, Any]:
    try:
        fields = parsed("expression", bounded_text(path))
        _require_form(fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"Expected {path} to describe a merge ({type(error).__name__}: {error}). Another "
            "version of dpft wrote it, or it is damaged. Take the folder as it was saved."
        ) from error
    found: dict[str, Any] = fields
    return found


def _require_form(fields: Any) -> None:
    """Raise unless every field that is shown is of its type."""
    texts = [fields["family"], fields["base"]["name"]]
    for term in fields["terms"]:
        texts += [term["leaf"], term["coefficient"], *term["runs"]]
    named = fields["made_by"].get("expression", {})
    texts += [*named, *named.values()]
    if fields["format"] != _FORMAT or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"format={fields['format']!r}, or a field of another type")
    if not fields["terms"]:
        raise TypeError("no summand")


def _term(fields: Mapping[str, Any]) -> MergedTerm:
    return MergedTerm(fields["leaf"], fields["coefficient"], tuple(fields["runs"]))


def _require_same_runs(merge: Merge) -> None:
    certified = {run.run_id for run in merge.certificate.runs}
    named = {run for term in merge.terms for run in term.runs}
    if certified != named:
        raise BrokenGuaranteeError(
            f"Expected {EXPRESSION} in {merge.path} to name the runs of the certificate, differing "
            f"in {sorted(certified ^ named)}. What was merged and what was paid for would not be "
            "the same. Take the folder as it was saved."
        )


def _summand(name: str, coefficient: str) -> str:
    sign, size = ("-", coefficient[1:]) if coefficient.startswith("-") else ("+", coefficient)
    return f"{sign} {name if size == '1' else f'{size} * {name}'}"
