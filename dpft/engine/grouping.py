"""Which records of a physical batch belong to one user.

Shapes: B records, U users, R the most records of a user here.
"""

import dataclasses
from collections.abc import Sequence

import torch

__all__ = ["Grouping"]


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Consecutive records of a batch, user after user.

    Args:
        sizes_U: Number of records of each user, >= 1; they add up to B.

    Privacy:
        Raw: how many records a user has is private.
    """

    sizes_U: torch.Tensor = dataclasses.field(repr=False)  # noqa: N815 - the shape suffix of kernels

    @classmethod
    def of(cls, sizes: Sequence[int], device: torch.device) -> "Grouping":
        """Return the grouping of these sizes, on a device."""
        return cls(torch.tensor(sizes, device=device))

    @property
    def count(self) -> int:
        """Number of users U."""
        return len(self.sizes_U)

    def owners_B(self) -> torch.Tensor:  # noqa: N802 - the shape suffix of kernels
        """Return the number of each record's user, in [0, U)."""
        users = torch.arange(self.count, device=self.sizes_U.device)
        return users.repeat_interleave(self.sizes_U)

    def members(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each user's records, padded to R: positions [U, R] and which of them are there."""
        most = int(self.sizes_U.max())
        place = torch.arange(most, device=self.sizes_U.device)
        present = place < self.sizes_U.unsqueeze(1)
        starts = self.sizes_U.cumsum(0) - self.sizes_U
        return torch.where(present, starts.unsqueeze(1) + place, 0), present
