"""Whose records a method looks at: nobody's who is protected here, or somebody's at a price."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dpft.accounting.rules import positive_problems, require

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
        records: Any number.
        epsilon: Budget of the release, > 0.
        dataset_id: Name of the data set in the ledger.

    Raises:
        ConfigurationError: If epsilon is out of range.

    Privacy:
        A method that takes them adds its own run to the certificate, or is refused
        (`test_a_private_method_must_charge_its_run`).
    """

    records: Sequence[Any]
    epsilon: float
    dataset_id: str

    def __post_init__(self) -> None:
        """Check the budget."""
        require(positive_problems("epsilon", self.epsilon))


Data = Public | Private
