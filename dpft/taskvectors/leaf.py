"""A leaf of the algebra: one delta that somebody trained, its base model and its certificate."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from dpft.accounting import Certificate
from dpft.adapters.algebra import Delta
from dpft.taskvectors.bases import BaseIdentity
from dpft.taskvectors.sealing import SealedParts

__all__ = ["Leaf", "digest_of_delta"]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One delta. Two leaves are the same if their ids are.

    Args:
        id: SHA-256 over tensors, base model and certificate.
        delta: What was trained.
        certificate: The runs that it holds traces of.
        base: The model that it belongs to.
        history: How it was made of other leaves, in public words and numbers; empty if trained.

    Privacy:
        Nothing, no data touched: released weights and public numbers. The same tensors with another
        certificate are another leaf, so that no certificate replaces another
        (`test_one_delta_under_two_certificates_pays_for_both`).
    """

    id: str
    delta: Delta = dataclasses.field(compare=False)
    certificate: Certificate = dataclasses.field(compare=False)
    base: BaseIdentity = dataclasses.field(compare=False)
    history: Mapping[str, object] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, delta: Delta, certificate: Certificate, base: BaseIdentity) -> "Leaf":
        """Name a delta by what it is.

        Args:
            delta: Read once, one part at a time.
            certificate: Its runs.
            base: The model that it belongs to.

        Privacy:
            Nothing, no data touched.
        """
        sealed = dataclasses.replace(delta, parts=SealedParts(delta.parts))
        names = [digest_of_delta(sealed), base.digest, base.name, certificate.digest]
        name = hashlib.sha256(json.dumps(names).encode()).hexdigest()
        return cls(name, sealed, certificate, base)

    @property
    def run_ids(self) -> frozenset[str]:
        """Names of the runs that it holds traces of."""
        return frozenset(run.run_id for run in self.certificate.runs)


def digest_of_delta(delta: Delta) -> str:
    """Return the SHA-256 of a delta: its family, its settings and all tensors.

    Args:
        delta: Read one part at a time.

    Privacy:
        Nothing, no data touched: released weights.
    """
    sealed = delta.parts if isinstance(delta.parts, SealedParts) else SealedParts(delta.parts)
    fixed = [delta.family.value, dict(delta.settings), sorted(delta.heads), delta.labels]
    text = json.dumps([*fixed, sealed.digests], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
