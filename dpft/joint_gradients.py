"""Users instead of records in a step: their joint gradients, clipped, or plain where not private.

A user's joint gradient is the mean over all of the user's records: the gradient of the user's own
mean loss. It has the scale of one record's, whatever their number, so that the clip norm and the
learning rate mean what they mean for records; after clipping its direction is that of the sum.
"""

import torch

from dpft.clipping import ClippedSum, JointGradient
from dpft.engine.attachment import Engine
from dpft.sampling import UserBatch

__all__ = ["add_clipped_users", "add_plain_gradient"]


def add_clipped_users(engine: Engine, users: UserBatch, total: ClippedSum) -> None:
    """Add the clipped joint gradient of every user of a batch.

    Args:
        engine: The engine of the model.
        users: Whole users, or one whose records fill several physical batches.
        total: The clipped sum of the logical batch.

    Privacy:
        Whatever its records are, in whatever order, a user moves the sum by at most the clip norm
        (`test_no_user_contributes_more_than_the_clip_norm`); one record that is not finite takes
        the whole user out (`test_one_record_that_is_not_finite_zeroes_the_whole_user`).

    References:
        Charles et al. 2024 (2407.07737), who call it user-level sampling with clipping by user. The
        mean is over all of a user's records here; the paper leaves their number to a setting.
    """
    if users.is_whole:
        for batch in users.tensors():
            total.add_users(engine.gradients(batch), users.sizes)
        return
    joint = JointGradient(engine.parameters)
    for batch, part in zip(users.tensors(), users.parts, strict=True):
        joint.add(engine.gradients(batch), len(part))
    total.add_user(joint)


def add_plain_gradient(engine: Engine, users: UserBatch, divisor: float) -> None:
    """Add the ordinary gradient of every user's mean loss, for runs that are not private.

    Args:
        engine: The engine of the model; its parameters' `grad` is added to.
        users: Users of a batch.
        divisor: By which the sum over users is divided.

    Privacy:
        NONE.
    """
    for batch, shares in zip(users.tensors(), users.shares(), strict=True):
        losses = engine.loss(engine.model, batch)
        weights = torch.tensor(shares, device=losses.device, dtype=losses.dtype)
        torch.autograd.backward((losses * weights).sum() / divisor)
