"""Parts that are read late, held to what they were when their certificate was taken.

A model in memory may be trained further, a file replaced. What is then read is no longer what the
certificate speaks of.
"""

import hashlib
from collections.abc import Iterator, Mapping

from dpft.adapters.algebra import Part
from dpft.adapters.algebra.base import update_with_tensor
from dpft.errors import BrokenGuaranteeError

__all__ = ["SealedParts"]


class SealedParts(Mapping[str, Part]):
    """Parts with the digest of each, which is compared whenever one is read.

    Args:
        parts: Parts by place; each is read once now.

    Privacy:
        Nothing, no data touched: released weights
        (`test_a_model_that_was_trained_further_is_refused`).
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self.digests = {place: _digest(parts[place]) for place in sorted(parts)}

    def __getitem__(self, place: str) -> Part:
        part = self._parts[place]
        if isinstance(self._parts, dict) or _digest(part) == self.digests[place]:
            return part  # those of a dict are copies that nobody else holds
        raise BrokenGuaranteeError(
            f"Expected {place} to be what it was when the vector was made. A model was trained "
            "further, or a file replaced, and the certificate does not cover that. Keep both "
            "models as they were, or make the vector anew."
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.digests)

    def __len__(self) -> int:
        return len(self.digests)


def _digest(part: Part) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(part.tensors().items()):
        update_with_tensor(digest, name, tensor)
    return digest.hexdigest()
