"""What is streamed is what safetensors would have written, and its digest that of the file."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpft.artefact_digest import read_header, tensors_digest
from dpft.taskvectors.tensor_stream import in_layout_order, write_stream

TENSORS = {
    "b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a": torch.tensor(1.5),
    "c.d": torch.zeros(0, 4),
}
MIXED = {"a": torch.ones(3, dtype=torch.bfloat16), "b": torch.ones(2, dtype=torch.float64)}


def written(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    order = in_layout_order(tensors)
    write_stream(path, tensors, ((name, tensors[name]) for name in order), digest)
    return digest.hexdigest()


@pytest.mark.parametrize("tensors", [TENSORS, MIXED], ids=["one type", "two types"])
def test_a_streamed_file_is_the_one_of_safetensors(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    written(tmp_path / "t.safetensors", tensors)
    again = load_file(tmp_path / "t.safetensors")
    assert set(again) == set(tensors)
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    header = read_header(tmp_path / "t.safetensors")
    assert header.metadata == {"format": "pt"}
    for stored in header.tensors.values():
        size = {"F32": 4, "F64": 8, "BF16": 2}[stored.dtype]
        assert stored.begin % size == 0, "tensors are aligned"


def test_the_digest_of_a_stream_is_that_of_the_file(tmp_path: Path) -> None:
    assert written(tmp_path / "t.safetensors", TENSORS) == tensors_digest(tmp_path)


def test_tensors_may_turn_out_smaller_than_announced(tmp_path: Path) -> None:
    large = {name: torch.empty(1000, 1000, device="meta") for name in ("a", "b")}
    small = {"a": torch.ones(2, 3), "b": torch.zeros(5)}
    digest = hashlib.sha256()
    write_stream(tmp_path / "t.safetensors", large, small.items(), digest)
    again = load_file(tmp_path / "t.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in small.items())
    assert digest.hexdigest() == tensors_digest(tmp_path)


def test_a_tensor_that_does_not_come_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        write_stream(tmp_path / "t.safetensors", TENSORS, iter(()), hashlib.sha256())
