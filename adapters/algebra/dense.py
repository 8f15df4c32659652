"""A change of a parameter, added to it: the plainest delta."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from dpft.adapters.algebra.layout import Layout
from dpft.adapters.algebra.linear import weighted_sum

__all__ = ["Dense"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dense:
    """What is added to a parameter.

    Args:
        added: Of the parameter's shape, as the model stores it.
        layout: How the model stores it, if it is a matrix.
    """

    added: torch.Tensor
    layout: Layout = Layout.UNKNOWN

    def dense(self) -> torch.Tensor:
        """Return what is added.

        Privacy:
            Nothing, no data touched.
        """
        return self.added

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Return the tensors that it consists of, by name.

        Privacy:
            Nothing, no data touched.
        """
        return {"added": self.added}

    def trained(self) -> torch.Tensor:
        """Return what began at zero.

        Privacy:
            Nothing, no data touched.
        """
        return self.added

    @classmethod
    def combined(cls, terms: Sequence[tuple[float, "Dense"]]) -> "Dense":
        """Return the weighted sum.

        Args:
            terms: Weights and parts, at least one.

        Raises:
            ConfigurationError: If shapes differ.

        Privacy:
            Nothing, no data touched.
        """
        layouts = [part.layout for _, part in terms if part.layout is not Layout.UNKNOWN]
        added = weighted_sum([(weight, part.added) for weight, part in terms])
        return cls(added, layouts[0] if layouts else Layout.UNKNOWN)
