"""Knobs that change speed and memory, and nothing else. No torch in here."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated

__all__ = ["Performance"]


@validated
class Performance:
    """How a logical batch is cut into physical batches.

    Args:
        token_budget: Largest number of tokens, padding included, in one physical batch.
        max_physical_batch: Largest number of records in one physical batch.

    Privacy:
        Cannot change epsilon, the noise or the update
        (`tests/dpft/test_private_step.py::test_physical_batches_do_not_change_the_update`).
    """

    token_budget: Annotated[int, Field(ge=1)] = 2048
    max_physical_batch: Annotated[int, Field(ge=1)] = 512
