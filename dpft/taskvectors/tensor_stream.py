"""Writes a safetensors file one tensor at a time, and digests what it writes.

The header is written last, into space that was kept for it: a rank that a tolerance decides is
known only when its matrix was cut.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from dpft.errors import ConfigurationError
from dpft.taskvectors.adapter_file import as_stored

__all__ = ["in_layout_order", "refuse_infinite", "update_with_stored", "write_stream"]

_LENGTH_BYTES = 8
_METADATA = {"__metadata__": {"format": "pt"}}


def in_layout_order(shapes: Mapping[str, torch.Tensor]) -> list[str]:
    """Return names in the order of a file: larger types first, so that each tensor is aligned.

    Args:
        shapes: Tensors by name; their content is not looked at.

    Privacy:
        Nothing, no data touched.
    """
    return sorted(shapes, key=lambda name: (-shapes[name].element_size(), name))


def write_stream(
    path: Path,
    shapes: Mapping[str, torch.Tensor],
    tensors: Iterable[tuple[str, torch.Tensor]],
    digest: Any,
) -> None:
    """Write tensors as they come; none of them is kept.

    Args:
        path: A new file.
        shapes: Names, types and largest shapes of all tensors that will come.
        tensors: Names and tensors in the order of `in_layout_order`.
        digest: Of hashlib; updated as `dpft.artefact_digest.tensors_digest` would, if names are in
            alphabetical order.

    Raises:
        ConfigurationError: If a number is infinite, or none.

    Privacy:
        Releases the tensors as they are (`test_a_streamed_file_is_the_one_of_safetensors`).
    """
    kept = len(_header(_entries(shapes)))
    entries: dict[str, Any] = {}
    reached = 0
    with path.open("wb") as file:
        file.seek(_LENGTH_BYTES + kept)
        for name, tensor in tensors:
            refuse_infinite(name, tensor)
            content = _bytes(tensor)
            update_with_stored(digest, name, tensor)
            file.write(content)
            entries[name] = _entry(tensor, reached)
            reached += len(content)
        assert list(entries) == in_layout_order(shapes), "what was announced was written"
        text = _header(entries)
        file.seek(0)
        file.write(kept.to_bytes(_LENGTH_BYTES, "little") + text + b" " * (kept - len(text)))


def refuse_infinite(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that holds what is no finite number.

    Args:
        name: Its name.
        tensor: Any shape.

    Raises:
        ConfigurationError: If it does.

    Privacy:
        Nothing, no data touched: released weights (`test_what_overflows_is_refused`).
    """
    if not bool(torch.isfinite(tensor).all()):
        raise ConfigurationError(
            f"Expected all numbers in {name} to be finite as {tensor.dtype}. A model with others "
            "answers nothing, and no sum of them is exact. Choose smaller coefficients or another "
            "dtype, or leave out the adapter that holds them."
        )


def update_with_stored(digest: Any, name: str, tensor: torch.Tensor) -> None:
    """Add a tensor to a digest as `dpft.artefact_digest.tensors_digest` does.

    Args:
        digest: Of hashlib; changed in place.
        name: Name in the artefact.
        tensor: The tensor.

    Privacy:
        Nothing, no data touched: released weights
        (`test_the_digest_of_a_stream_is_that_of_the_file`).
    """
    content = _bytes(tensor)
    lines = [name, as_stored(tensor.dtype), list(tensor.shape), len(content)]
    digest.update(json.dumps(lines).encode() + b"\n")
    digest.update(content)


def _entries(shapes: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    entries, reached = {}, 0
    for name in in_layout_order(shapes):
        entries[name] = _entry(shapes[name], reached)
        reached = entries[name]["data_offsets"][1]
    return entries


def _entry(tensor: torch.Tensor, begin: int) -> dict[str, Any]:
    end = begin + tensor.numel() * tensor.element_size()
    shape = list(tensor.shape)
    return {"dtype": as_stored(tensor.dtype), "shape": shape, "data_offsets": [begin, end]}


def _header(entries: Mapping[str, Any]) -> bytes:
    text = json.dumps(_METADATA | dict(entries), separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _LENGTH_BYTES)


def _bytes(tensor: torch.Tensor) -> Any:
    """Return the bytes of a tensor, as an array of numpy without a copy."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
