"""One logical batch through the model: its clipped sum, or its ordinary gradient.

Where memory runs out on the way, what was added up is discarded and the same sample is begun anew
with half the budget, before any noise is drawn. Nobody is told: that it happened depends on the
lengths of the sampled records. Nothing here adds noise; `dpft.private_step` is the only caller.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine
from dpft.joint_gradients import add_clipped_users, add_plain_gradient
from dpft.performance import Performance
from dpft.physical_cut import PhysicalCut, freed
from dpft.privacy import PrivacyPlan
from dpft.sampling import LogicalBatch

__all__ = ["add_ordinary_gradient", "clipped_sum"]

_Result = TypeVar("_Result")


def clipped_sum(
    engine: Engine, batch: LogicalBatch, plan: PrivacyPlan, cut: PhysicalCut
) -> ClippedSum:
    """Return the sum of clipped gradients of the records, or users, of a logical batch.

    Args:
        engine: The engine of the model.
        batch: The sample of one step.
        plan: Says what is clipped, how, and to which norm.
        cut: How the batch is cut; made finer where memory runs out.

    Raises:
        RuntimeError: As torch says it, if a single record does not fit into memory.

    Privacy:
        As `ClippedSum`: raw until noise is added. Every record of the sample is in it exactly
        once, however often it was begun anew, and the randomness of the forward pass begins anew
        with it (`tests/dpft/test_logical_gradients.py`).
    """
    privacy = plan.privacy

    def attempt(performance: Performance) -> ClippedSum:
        total = ClippedSum(engine.parameters, privacy.clipping, privacy.clip_norm)
        if privacy.samples_users:
            for users in batch.user_batches(performance):
                add_clipped_users(engine, users, total)
            return total
        for physical in batch.physical_batches(performance):
            total.add(engine.gradients(physical))
        return total

    return _fitting(engine, batch, cut, attempt)


def add_ordinary_gradient(
    engine: Engine, batch: LogicalBatch, plan: PrivacyPlan, cut: PhysicalCut
) -> None:
    """Add the ordinary gradient of a logical batch, for runs that are not private.

    Args:
        engine: The engine of the model; its parameters hold no gradient, and this one afterwards.
        batch: The sample of one step.
        plan: Says what was sampled, and the divisor.
        cut: How the batch is cut; made finer where memory runs out.

    Raises:
        RuntimeError: As torch says it, if a single record does not fit into memory.

    Privacy:
        NONE.
    """
    divisor = plan.length.expected_batch_size

    def attempt(performance: Performance) -> bool:
        if plan.privacy.samples_users:
            for users in batch.user_batches(performance):
                add_plain_gradient(engine, users, divisor)
            return True
        for physical in batch.physical_batches(performance):
            losses = engine.loss(engine.model, physical)
            torch.autograd.backward(losses.sum() / divisor)
        return True

    _fitting(engine, batch, cut, attempt)


def _fitting(
    engine: Engine,
    batch: LogicalBatch,
    cut: PhysicalCut,
    attempt: Callable[[Performance], _Result],
) -> _Result:
    """Return what an attempt returns, the first that fits into memory."""

    def guarded() -> _Result:
        with _undone_if_it_fails(engine):
            return attempt(cut.raw_performance)

    while (result := freed(guarded)) is None:
        if not cut.halve(batch.raw_longest):
            raise torch.OutOfMemoryError(
                "Expected the records of a step to fit into memory, at least one by one. The step "
                "is charged and the run is over. Shorten records (architecture.max_length), set a "
                "smaller performance.token_budget, or take a smaller model or number format."
            )
    return result


@contextmanager
def _undone_if_it_fails(engine: Engine) -> Iterator[None]:
    """Leave no trace of an attempt that fails, and the random state as it was in any case.

    The secret stream of a step begins anew with every attempt: the update is a function of the
    sample, the stream and the cut that did fit, as if that one had been in force at once.
    """
    buffers = [(buffer, buffer.clone()) for buffer in engine.model.buffers()]
    try:
        with torch.random.fork_rng():
            yield
    except BaseException:
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
        for parameter in engine.parameters.values():
            parameter.grad = None
        raise
