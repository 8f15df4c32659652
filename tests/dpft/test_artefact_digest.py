"""The digest sees every change of a tensor and nothing else; a note leaves the tensors alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dpft.artefact_digest import NOTE, note_of, read_header, tensors_digest, write_note
from dpft.errors import BrokenGuaranteeError

NAME = "adapter_model.safetensors"


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(3, 5, generator=generator),
        "b.weight": torch.randn(7, generator=generator).to(torch.bfloat16),
        "c.empty": torch.zeros(0, 4),
        "d.scalar": torch.tensor(3, dtype=torch.int64),
    }


def save(folder: Path, content: dict[str, torch.Tensor], name: str = NAME, **metadata: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(content, folder / name, metadata=metadata or None)
    return folder


def digest(folder: Path, content: dict[str, torch.Tensor]) -> str:
    return tensors_digest(save(folder, content))


def rewritten(path: Path, change: Any) -> None:
    """Change the header of a file, and leave its tensors."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    fields = json.loads(raw[8 : 8 + length])
    change(fields)
    text = json.dumps(fields).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def test_order_and_metadata_and_the_cut_into_files_do_not_matter(tmp_path: Path) -> None:
    whole = digest(tmp_path / "whole", tensors())
    backwards = dict(reversed(tensors().items()))
    assert digest(tmp_path / "backwards", backwards) == whole
    assert tensors_digest(save(tmp_path / "noted", tensors(), format="pt", x="y")) == whole
    halves = list(tensors().items())
    save(tmp_path / "cut", dict(halves[:2]), "model-00001-of-00002.safetensors")
    save(tmp_path / "cut", dict(halves[2:]), "model-00002-of-00002.safetensors")
    assert tensors_digest(tmp_path / "cut") == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["a.weight"].view(-1)[3:4].add_(1e-6),
        lambda found: found.update({"a.weight": found["a.weight"].view(5, 3)}),
        lambda found: found.update({"b.weight": found["b.weight"].view(torch.float16)}),
        lambda found: found.update({"e.weight": found.pop("a.weight")}),
        lambda found: found.update({"a.other": found.pop("a.weight")}),  # in the same order
        lambda found: found.update({"c.empty": torch.zeros(4, 0)}),
        lambda found: found.pop("c.empty"),
        lambda found: found.update({"new": torch.zeros(1)}),
        lambda found: found.update(
            {"a.weight": found["a.weight"].flip(0), "d.scalar": found["d.scalar"]}
        ),
    ],
)
def test_any_change_of_a_tensor_changes_the_digest(tmp_path: Path, change: Any) -> None:
    before, edited = tensors(), tensors()
    change(edited)
    assert digest(tmp_path / "before", before) != digest(tmp_path / "after", edited)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_changed_byte_of_the_tensors_is_seen(tmp_path: Path, data: st.DataObject) -> None:
    before = digest(tmp_path, tensors())
    path = tmp_path / NAME
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(read_header(path).length, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(raw))
    assert tensors_digest(tmp_path) != before


def test_the_last_byte_of_a_large_tensor_counts(tmp_path: Path) -> None:
    large = torch.zeros(3 << 20, dtype=torch.uint8)  # it is read in pieces of one mebibyte
    edited = large.clone()
    edited[-1] = 1
    assert digest(tmp_path / "before", {"a": large}) != digest(tmp_path / "after", {"a": edited})


def test_tensors_of_other_adapters_below_the_folder_count(tmp_path: Path) -> None:
    one = digest(tmp_path, {"a": torch.ones(2)})
    save(tmp_path / "other", {"a": torch.zeros(2)})
    assert tensors_digest(tmp_path) != one


def test_a_note_leaves_tensors_and_metadata_as_they_are(tmp_path: Path) -> None:
    before = tensors_digest(save(tmp_path, tensors(), format="pt"))
    path = tmp_path / NAME
    mode = path.stat().st_mode
    for text in ("first", "second"):
        write_note(path, text)
        assert note_of(path) == text
    assert tensors_digest(tmp_path) == before
    with safe_open(path, framework="pt") as stored:
        assert stored.metadata() == {"format": "pt", NOTE: "second"}
    loaded = load_file(path)
    for name, tensor in tensors().items():
        kept, given_ = loaded[name], tensor
        assert kept.shape == given_.shape
        assert torch.equal(kept.ravel().view(torch.uint8), given_.ravel().view(torch.uint8)), name
    assert read_header(path).length % 8 == 0
    assert path.stat().st_mode == mode
    assert [each.name for each in tmp_path.iterdir()] == [NAME]


def test_a_file_without_a_note_has_none(tmp_path: Path) -> None:
    assert note_of(save(tmp_path, tensors()) / NAME) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 40),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"hidden"),
        lambda path: rewritten(path, lambda f: f["a.weight"].update(data_offsets=[0, 60])),
        lambda path: rewritten(path, lambda f: f["d.scalar"].update(data_offsets=[-8, 8])),
        lambda path: rewritten(path, lambda f: f["a.weight"].update(note=1)),
        lambda path: rewritten(path, lambda f: f["a.weight"].update(shape=[1.5])),
        lambda path: rewritten(path, lambda f: f.update(__metadata__={"a": 1})),
        lambda path: rewritten(path, lambda f: f.pop("a.weight")),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Any) -> None:
    save(tmp_path, tensors())
    damage(tmp_path / NAME)
    with pytest.raises(BrokenGuaranteeError, match="whole safetensors file"):
        tensors_digest(tmp_path)


def test_a_repeated_tensor_is_refused(tmp_path: Path) -> None:
    save(tmp_path, {"a": torch.ones(1)})
    save(tmp_path, {"a": torch.zeros(1)}, "second.safetensors")
    with pytest.raises(BrokenGuaranteeError, match="in two files"):
        tensors_digest(tmp_path)


def test_a_folder_without_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenGuaranteeError, match="to hold tensors"):
        tensors_digest(tmp_path)


def test_a_header_nested_too_deeply_is_no_header(tmp_path: Path) -> None:
    text = b"[" * 100_000
    (tmp_path / "t.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(BrokenGuaranteeError, match="whole safetensors file"):
        read_header(tmp_path / "t.safetensors")
