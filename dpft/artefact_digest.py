"""Digests of released tensors, and the note in the metadata of their files. No torch in here.

A safetensors file is eight bytes with the length of its header, the header in JSON, and the bytes
of the tensors. The digest is taken over names, types, shapes and bytes, sorted by name: neither
the order in a file, nor the cut into files, nor the metadata matter.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dpft.errors import BrokenGuaranteeError
from dpft.run_folder import make_durable

__all__ = [
    "NOTE",
    "Header",
    "StoredTensor",
    "note_of",
    "read_header",
    "tensor_files",
    "tensors_digest",
    "write_note",
]

NOTE = "dpft_certificate_sha256"
_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_LONGEST_HEADER = 16 << 20  # some 100,000 tensors; safetensors itself reads 100 MB
_MOST_NUMBERS = 1 << 60  # in one tensor, empty dimensions left aside
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file.

    Args:
        dtype: Type as safetensors calls it, such as F32.
        shape: Its shape.
        begin: First byte, counted from the end of the header.
        end: Byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclasses.dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself.

    Args:
        metadata: Free texts by name.
        tensors: Tensors by name.
        length: Bytes before the first tensor.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, StoredTensor]
    length: int


def tensor_files(folder: Path) -> list[Path]:
    """Return the safetensors files of an artefact, in order of their paths.

    Args:
        folder: Folder of an adapter or a model.

    Privacy:
        Nothing, no data touched.
    """
    return sorted(path for path in folder.rglob("*.safetensors") if path.is_file())


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file.

    Args:
        path: The file.

    Returns:
        The header.

    Raises:
        BrokenGuaranteeError: If it is no such file, or its parts do not fit together.

    Privacy:
        Nothing, no data touched: released weights.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        text = file.read(length) if length <= _LONGEST_HEADER else b""
        size = os.fstat(file.fileno()).st_size
    start = _LENGTH_BYTES + length
    try:
        fields = json.loads(text, object_pairs_hook=_without_repetition)
        "".join(fields).encode()  # names are written again: half a surrogate pair cannot be
        metadata = _texts(fields.pop(_METADATA, {}))
        tensors = {name: _stored(entry) for name, entry in fields.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, repr(error)) from error
    _check_places(path, tensors, size - start)
    return Header(metadata, tensors, start)


def tensors_digest(folder: Path) -> str:
    """Return the digest of all tensors of an artefact.

    Args:
        folder: Folder of an adapter or a model; a tensor of a file in a folder below it is named
            after that folder and itself.

    Returns:
        SHA-256 in hexadecimal digits.

    Raises:
        BrokenGuaranteeError: If there is no tensor, a file is damaged, or two have one name.

    Privacy:
        Nothing, no data touched: released weights
        (`test_any_change_of_a_tensor_changes_the_digest`).
    """
    found: dict[str, tuple[Path, int, StoredTensor]] = {}
    for path in tensor_files(folder):
        header = read_header(path)
        below = path.parent.relative_to(folder)
        for name, tensor in header.tensors.items():
            full = f"{below.as_posix()}/{name}" if below.parts else name
            if full in found:
                raise _damaged(path, f"{full} is in two files")
            found[full] = (path, header.length, tensor)
    if not found:
        raise BrokenGuaranteeError(
            f"Expected artefact={folder} to hold tensors in safetensors files. A certificate "
            "belongs to tensors. Name the folder of an adapter."
        )
    digest = hashlib.sha256()
    for name in sorted(found):
        path, start, tensor = found[name]
        lines = [name, tensor.dtype, list(tensor.shape), tensor.end - tensor.begin]
        digest.update(json.dumps(lines).encode() + b"\n")  # its length is stated: nothing runs over
        for chunk in _chunks(path, start + tensor.begin, start + tensor.end):
            digest.update(chunk)
    return digest.hexdigest()


def note_of(path: Path) -> str | None:
    """Return the digest of the certificate that a file names in its metadata, None if none.

    Args:
        path: A safetensors file.

    Raises:
        BrokenGuaranteeError: If the file is damaged.

    Privacy:
        Nothing, no data touched.
    """
    return read_header(path).metadata.get(NOTE)


def write_note(path: Path, digest: str) -> None:
    """Name a certificate in the metadata of a file; tensors and other metadata stay bit for bit.

    Args:
        path: A safetensors file. It is replaced as a whole: a crash leaves the old one.
        digest: Digest of the published certificate.

    Raises:
        BrokenGuaranteeError: If the file is damaged.

    Privacy:
        Nothing, no data touched (`test_a_note_leaves_tensors_and_metadata_as_they_are`).
    """
    header = read_header(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        fields = json.loads(file.read(length))
    fields[_METADATA] = {**header.metadata, NOTE: digest}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # tensors begin at a multiple of eight bytes
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as written:
        written.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for chunk in _chunks(path, header.length, path.stat().st_size):
            written.write(chunk)
    draft.chmod(path.stat().st_mode)
    make_durable(draft)
    draft.replace(path)
    make_durable(path.parent)


def _chunks(path: Path, begin: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        yield from _read(file, end - begin)


def _read(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise BrokenGuaranteeError(
                f"Expected {file.name} to hold {left} more bytes. A file that changes while it is "
                "read proves nothing. Try again when nobody writes it."
            )
        left -= len(chunk)
        yield chunk


def _stored(entry: Any) -> StoredTensor:
    begin, end = entry["data_offsets"]
    stored = StoredTensor(entry["dtype"], tuple(entry["shape"]), begin, end)
    counts = (*stored.shape, begin, end)
    if set(entry) != {"dtype", "shape", "data_offsets"} or not isinstance(stored.dtype, str):
        raise ValueError(f"unknown fields of a tensor: {sorted(entry)}")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError(f"no shape or place: {counts}")
    if math.prod(max(size, 1) for size in stored.shape) >= _MOST_NUMBERS:
        raise ValueError(f"a shape that no memory holds: {stored.shape[:8]}")
    return stored


def _texts(metadata: Any) -> dict[str, str]:
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata that are no texts")
    "".join([*metadata, *metadata.values()]).encode()
    return dict(metadata)


def _check_places(path: Path, tensors: Mapping[str, StoredTensor], size: int) -> None:
    """Check that the tensors fill the file without gaps: nothing lies where no digest looks."""
    reached = 0
    for tensor in sorted(tensors.values(), key=lambda each: (each.begin, each.end)):
        if tensor.begin != reached or tensor.end < tensor.begin:
            raise _damaged(path, "tensors overlap, or leave gaps")
        reached = tensor.end
    if reached != size:
        raise _damaged(path, f"{size} bytes of tensors instead of {reached}")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name is repeated")
    return dict(pairs)


def _damaged(path: Path, found: str) -> BrokenGuaranteeError:
    return BrokenGuaranteeError(
        f"Expected {path} to be a whole safetensors file ({found}). What it holds cannot be "
        "compared with a certificate. Take the file from the original run."
    )
