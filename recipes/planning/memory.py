"""How many tokens fit beside a model of a size. Estimates on the safe side; no torch in here."""

import json
import math
import struct
from pathlib import Path

from dpft.errors import ConfigurationError

__all__ = ["parameters_in", "tokens_that_fit"]

_GIB = 2**30
_BYTES = 4  # float32
_WIDTH_BY_DEPTH = 64  # BERT and GPT-2, base: 768 by 12
_HEAD_WIDTH = 64
_VOCABULARY = 50_000
_LONGEST_HEADER = 16 << 20  # as where adapters are read
_UNREADABLE = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError),
    *(ValueError, struct.error),
)
_USABLE = 0.5  # ours: what the allocator and the engine hold besides


def parameters_in(folder: Path) -> int:
    """Count the weights of a model from the headers of its safetensors files.

    Args:
        folder: Of the model.

    Returns:
        Their number.

    Raises:
        ConfigurationError: If there are no such files, or one cannot be read.

    Privacy:
        Nothing, no data touched.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigurationError(
            f"Expected model={folder} to be a folder with safetensors files. Its size is counted "
            "from them. Give --parameters M instead."
        )
    return sum(map(_weights, files))


def tokens_that_fit(
    memory_gib: float, parameters: int, max_length: int, *, writes_text: bool
) -> int:
    """Estimate the largest physical batch, in tokens, a power of two.

    Args:
        memory_gib: Memory, in GiB.
        parameters: Weights of the base model, held in float32; an adapter's own are neglected.
        max_length: Longest record in tokens.
        writes_text: Whether scores over a vocabulary are held for every token.

    Returns:
        A `performance.token_budget`, at least `max_length`.

    Raises:
        ConfigurationError: If not even one record fits.

    Privacy:
        Nothing, no data touched; a wrong estimate costs speed or ends in an out-of-memory error.

    References:
        Korthikanti et al. 2022 (2205.05198), equation 2: activations of a layer. The model's shape
        is guessed from its size: depth x width^2 x 12 weights, width = 64 x depth.
    """
    free = (memory_gib * _GIB - parameters * _BYTES) * _USABLE
    depth = (parameters / 12 / _WIDTH_BY_DEPTH**2) ** (1 / 3)
    width = _WIDTH_BY_DEPTH * depth
    each = depth * width * (34 + 5 * max_length / _HEAD_WIDTH) * (_BYTES / 2)
    each += 3 * _VOCABULARY * _BYTES if writes_text else 0  # scores, their exponentials, gradients
    if free < each * max_length:
        raise ConfigurationError(
            f"Expected memory_gib={memory_gib} to hold {parameters} weights in float32 and one "
            f"record of {max_length} tokens. By estimate it does not. Take a smaller model, or "
            "lower architecture.max_length."
        )
    return max(max_length, int(2 ** math.floor(math.log2(free / each))))


def _weights(file: Path) -> int:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length) if length <= _LONGEST_HEADER else b"")
        header.pop("__metadata__", None)
        return sum(math.prod(map(int, entry["shape"])) for entry in header.values())
    except _UNREADABLE as error:
        raise ConfigurationError(
            f"Expected {file} to be a safetensors file. Its header cannot be read. Give "
            "--parameters M instead."
        ) from error
