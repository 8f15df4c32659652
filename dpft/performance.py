"""Knobs that change speed and memory, and nothing else. No torch in here."""

from enum import Enum
from typing import Annotated

from pydantic import Field

from dpft.configuration import validated

__all__ = ["FrozenPrefix", "Performance"]


class FrozenPrefix(str, Enum):
    """Where the output of frozen lower blocks is kept, record by record, during a run."""

    OFF = "off"
    """Nowhere: it is computed at every step."""
    MEMORY = "memory"
    """In the memory of the process."""
    DISK = "disk"
    """In a nameless file under `$DPFT_PRIVATE`, which is gone when the process ends."""


@validated
class Performance:
    """How a logical batch is cut into physical batches.

    Args:
        token_budget: Largest number of tokens, padding included, in one physical batch. Unset: what
            fits, found before the first step on synthetic records (`dpft.physical_cut`).
        max_physical_batch: Largest number of records in one physical batch.
        batch_overhead: What a physical batch costs beside its tokens, in tokens: the higher, the
            more padding is borne for fewer batches. Unset: as measured on the device.
        frozen_prefix: Where what leaves the frozen lower blocks is kept, so that it is computed
            once for each record; needs adapters in upper blocks alone, and no dropout below.

    Privacy:
        Cannot change epsilon, the noise or the update
        (`tests/dpft/test_private_step.py::test_physical_batches_do_not_change_the_update`,
        `tests/dpft/test_frozen_prefix_batches.py::test_the_cache_does_not_change_the_update`). What
        is kept of frozen blocks is raw data of records, in memory or where it is asked for.
    """

    token_budget: Annotated[int, Field(ge=1)] | None = None
    max_physical_batch: Annotated[int, Field(ge=1)] = 512
    batch_overhead: Annotated[int, Field(ge=0)] | None = None
    frozen_prefix: FrozenPrefix = FrozenPrefix.OFF
