"""Raw per-record gradients, for tests and research only."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from dpft.engine.attachment import Engine, batch_size_of

__all__ = ["per_record_gradients"]


def per_record_gradients(
    model: nn.Module,
    loss: Callable[[nn.Module, Mapping[str, torch.Tensor]], torch.Tensor],
    batch: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return every record's own gradient, raw: un-clipped and un-noised.

    G_b = d L_b / d theta for each record b, in one backward pass.

    Args:
        model: The model; parameters with `requires_grad` are differentiated.
        loss: Callable (model, batch) -> losses [B], each a function of its own record only.
        batch: Tensors whose first dimension is B >= 1.

    Returns:
        {name of every trainable parameter: tensor [B, *shape]}, zeros where it was not used.

    Raises:
        BrokenGuaranteeError: If a gradient by-passed the engine.
        UnsupportedError: If an operation's per-record gradient cannot be shown to be exact.

    Privacy:
        NONE: the result is raw and must not be released. It is the one function of the library
        that returns such a quantity. Leaves the model detached. There is no preflight: a model
        that permutes its batch, or flattens it time-major, is not found out here.

    References:
        Compared with a loop over single records in `tests/dpft/engine/test_exactness.py`.

    Example:
        >>> import torch, dpft
        >>> model = torch.nn.Linear(2, 1)
        >>> batch = {"x": torch.ones(3, 2)}
        >>> loss = lambda model, batch: model(batch["x"]).squeeze(-1)
        >>> dpft.per_record_gradients(model, loss, batch)["weight"].shape
        torch.Size([3, 1, 2])
    """
    raw = Engine(model, loss).raw_gradients(batch)
    size = batch_size_of(batch)
    return {
        name: raw.get(name, parameter.new_zeros(size, *parameter.shape)).detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
