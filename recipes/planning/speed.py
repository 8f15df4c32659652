"""How many floating-point operations this machine sustains: a short measurement."""

import time

import torch

__all__ = ["sustained_flops"]

_WIDTH = 1024
_ROUNDS = 5


def sustained_flops(dtype: torch.dtype) -> float:
    """Multiply square matrices for some tenths of a second, and return operations a second.

    Args:
        dtype: Number format of the matrices.

    Returns:
        Those of the best of five rounds, on the GPU if there is one.

    Privacy:
        Nothing, no data touched.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width = _WIDTH * (8 if device.type == "cuda" else 1)
    matrix = torch.ones(width, width, dtype=dtype, device=device)
    return 2 * width**3 / min(_seconds(matrix) for _ in range(_ROUNDS))


def _seconds(matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    product = matrix @ matrix
    float(product[0, 0])  # waits for the GPU
    return time.perf_counter() - start
