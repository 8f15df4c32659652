"""Arithmetic of clipping: float32 or better, whatever the user's own settings are."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["full_precision"]


@contextmanager
def full_precision(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Switch autocast and reduced float32 products (TF32, bfloat16) off.

    Args:
        tensors: Tell which devices are concerned.

    Privacy:
        A norm or a weighted sum in 16 bits would be off by more than the margin that keeps a
        contribution within the clip norm (`tests/dpft/engine/test_precision.py`).
    """
    chosen = torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        for device_type in {tensor.device.type for tensor in tensors}:
            if torch.amp.is_autocast_available(device_type):  # "meta" has none
                stack.enter_context(torch.autocast(device_type, enabled=False))
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(chosen)
