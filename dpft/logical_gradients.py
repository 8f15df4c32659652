"""One logical batch through the model: its clipped sum, or its ordinary gradient.

Nothing here adds noise; `dpft.private_step` is the only caller.
"""

import torch

from dpft.clipping import ClippedSum
from dpft.engine.attachment import Engine
from dpft.joint_gradients import add_clipped_users, add_plain_gradient
from dpft.performance import Performance
from dpft.privacy import PrivacyPlan
from dpft.sampling import LogicalBatch

__all__ = ["add_ordinary_gradient", "clipped_sum"]


def clipped_sum(
    engine: Engine, batch: LogicalBatch, plan: PrivacyPlan, performance: Performance
) -> ClippedSum:
    """Return the sum of clipped gradients of the records, or users, of a logical batch.

    Args:
        engine: The engine of the model.
        batch: The sample of one step.
        plan: Says what is clipped, how, and to which norm.
        performance: How the batch is cut.

    Privacy:
        As `ClippedSum`: raw until noise is added.
    """
    privacy = plan.privacy
    total = ClippedSum(engine.parameters, privacy.clipping, privacy.clip_norm)
    if privacy.samples_users:
        for users in batch.user_batches(performance):
            add_clipped_users(engine, users, total)
        return total
    for physical in batch.physical_batches(performance):
        total.add(engine.gradients(physical))
    return total


def add_ordinary_gradient(
    engine: Engine, batch: LogicalBatch, plan: PrivacyPlan, performance: Performance
) -> None:
    """Add the ordinary gradient of a logical batch, for runs that are not private.

    Args:
        engine: The engine of the model; its parameters' `grad` is added to.
        batch: The sample of one step.
        plan: Says what was sampled, and the divisor.
        performance: How the batch is cut.

    Privacy:
        NONE.
    """
    divisor = plan.length.expected_batch_size
    if plan.privacy.samples_users:
        for users in batch.user_batches(performance):
            add_plain_gradient(engine, users, divisor)
        return
    for physical in batch.physical_batches(performance):
        losses = engine.loss(engine.model, physical)
        torch.autograd.backward(losses.sum() / divisor)
