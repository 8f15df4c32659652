"""Telling a lack of memory from every other failure."""

import torch

__all__ = ["ran_out_of_memory"]

# Of torch on the CPU, and of the libraries under it on an accelerator.
_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory could not be had.

    Args:
        error: What was raised.

    Privacy:
        Nothing is released; that memory ran out depends on the records at hand, so nobody may
        write it down (`tests/dpft/test_logical_gradients.py::test_backing_off_is_silent`).
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)
