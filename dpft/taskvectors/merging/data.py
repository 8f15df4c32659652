"""Whose records a method looks at: nobody's who is protected here, or somebody's at a price."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dpft.accounting.rules import delta_problems, positive_problems, require

__all__ = ["Data", "Private", "Public"]


@dataclasses.dataclass(frozen=True, eq=False)
class Public:
    """Records that are public: whoever gives them states so.

    Args:
        records: Any number.

    Privacy:
        Looking at them costs nothing.
    """

    records: Sequence[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Private:
    """Records that are protected, and what looking at them may cost.

    Args:
        records: Any number: rows, or what a row holds.
        epsilon: What the release may cost at delta, > 0.
        dataset_id: Name of the data set in the ledger.
        delta: In (0, 1).
        ledger: File of the ledger; unset: the one that `$DPFT_LEDGER` names.

    Raises:
        ConfigurationError: If epsilon or delta is out of range.

    Privacy:
        A method that takes them is charged to the ledger before it sees them, and its run is added
        to the certificate (`test_a_private_method_is_charged_and_certified`).
    """

    records: Sequence[Any]
    epsilon: float
    dataset_id: str
    delta: float = 1e-5
    ledger: str | None = None

    def __post_init__(self) -> None:
        """Check what it may cost."""
        require(positive_problems("epsilon", self.epsilon), delta_problems(self.delta))


Data = Public | Private
