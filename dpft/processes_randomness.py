"""The randomness of one of several processes: its share of the sample, and noise for the lead.

No torch in here.
"""

import numpy as np
import numpy.typing as npt

from dpft.errors import BrokenGuaranteeError
from dpft.randomness import PinnedRandomness, Purpose, SecretRandomness, Stream

__all__ = ["ShareOfRandomness", "shared_out"]

_NEVER_A_STEP = 2**64  # ranks count down from it; steps count up from 0
_SEED_WORDS = 4


class ShareOfRandomness(SecretRandomness):
    """Streams for the records at every count-th position, from the one whose number is the rank.

    Args:
        source: Where the bits come from. The lead uses it as it is; the others draw keys of their
            own, secret like it, or pinned like it.
        rank: Number of this process; 0 leads.
        count: Number of processes, >= 1.

    Privacy:
        Shares do not overlap and cover all records, and each is sampled by an independent stream:
        together, that is the Poisson sample of one process
        (`test_shares_together_are_sampled_at_the_planned_rate`). Only the lead has a stream for
        noise, so that it is added once (`test_only_the_lead_has_noise`).
    """

    def __init__(self, source: SecretRandomness, rank: int, count: int) -> None:
        """Take the lead's source, or a key of its own."""
        self._rank, self._count = rank, count
        self._source = source if rank == 0 else _own(source, rank)
        self.name = f"{source.name}; on {count} processes, a key for each, noise by one of them"
        self.is_pinned = source.is_pinned

    def stream(self, purpose: Purpose, step: int) -> Stream:
        """Return the stream of one purpose in one step (>= 0).

        Raises:
            BrokenGuaranteeError: If noise is asked of a process that does not lead.
        """
        if purpose is Purpose.NOISE and self._rank != 0:
            raise BrokenGuaranteeError(
                f"Expected noise from the first process alone, not from rank={self._rank}. Noise "
                "added twice, or by halves, is not what was accounted for. Take steps by "
                "dpft.PrivateStep."
            )
        return self._source.stream(purpose, step)

    def poisson_sample(
        self, step: int, num_records: int, sample_rate: float
    ) -> npt.NDArray[np.int64]:
        """Return the indices that this process samples of all: each enters with `sample_rate`.

        Args:
            step: Number of the step.
            num_records: Number of rows of all processes.
            sample_rate: Probability in (0, 1].

        Privacy:
            As `SecretRandomness.poisson_sample`, of the own share. Which share a record falls into
            is its position, which no chance decides and nothing reveals.
        """
        own = len(range(self._rank, num_records, self._count))
        chosen = super().poisson_sample(step, own, sample_rate)
        return self._rank + self._count * chosen


def shared_out(source: SecretRandomness, rank: int, count: int) -> SecretRandomness:
    """Return the randomness of one process: of one alone the source itself.

    Args:
        source: Where the bits come from.
        rank: Number of this process; 0 leads.
        count: Number of processes.

    Privacy:
        As `ShareOfRandomness`.
    """
    return source if count == 1 else ShareOfRandomness(source, rank, count)


def _own(source: SecretRandomness, rank: int) -> SecretRandomness:
    """Return a source of another process: secret with a fresh key, or pinned by the rank too."""
    if not source.is_pinned:
        return SecretRandomness()
    words = source.stream(Purpose.FORWARD, _NEVER_A_STEP - rank).integers(_SEED_WORDS)
    return PinnedRandomness(int.from_bytes(words.tobytes(), "little"))
