"""Kept states: they come back as they were put, fit or are refused, and leave nothing behind."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from dpft import frozen_prefix_storage
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.frozen_prefix_storage import KeptStates, StateFormat
from dpft.performance import FrozenPrefix

LENGTHS = (3, 1, 5, 2)
FORM = StateFormat(width=4, dtype=torch.float32)


def states(count: int, tokens: int) -> torch.Tensor:
    return torch.randn(count, tokens, 4, generator=torch.Generator().manual_seed(tokens))


@pytest.mark.parametrize("place", [FrozenPrefix.MEMORY, FrozenPrefix.DISK])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_states_come_back_in_any_order_and_at_any_length(
    place: FrozenPrefix, dtype: torch.dtype
) -> None:
    kept = KeptStates(LENGTHS, StateFormat(4, dtype), place)
    assert kept.has([0, 1, 2, 3]) == [False] * 4
    first, second = states(2, 5).to(dtype), states(1, 2).to(dtype)
    kept.put([2, 0], first)
    kept.put([3], second)
    assert kept.has([0, 1, 2, 3]) == [True, False, True, True]
    got = kept.get([0, 3, 2], 6)
    assert got.dtype is dtype
    assert torch.equal(got[0, :3], first[1, :3])
    assert torch.equal(got[1, :2], second[0])
    assert torch.equal(got[2, :5], first[0])
    assert torch.equal(got[1, 2:], second[0, 1:].expand(4, -1))  # padding repeats the last


def test_states_of_padding_overwrite_no_other_record() -> None:
    kept = KeptStates(LENGTHS, FORM, FrozenPrefix.MEMORY)
    everything = states(4, 5)
    for number in (3, 2, 1, 0):
        kept.put([number], everything[number : number + 1])
    for number, length in enumerate(LENGTHS):
        assert torch.equal(kept.get([number], length)[0], everything[number, :length])


def test_an_empty_record_sees_no_state_of_another() -> None:
    kept = KeptStates([2, 0, 2], FORM, FrozenPrefix.MEMORY)
    everything = states(3, 3)
    kept.put([0, 1, 2], everything)
    assert torch.equal(kept.get([1], 3)[0], everything[1, :1].expand(3, -1))
    assert torch.equal(kept.get([2], 2)[0], everything[2, :2])


def test_fewer_states_than_tokens_are_refused() -> None:
    with pytest.raises(BrokenGuaranteeError, match="as many hidden states"):
        KeptStates(LENGTHS, FORM, FrozenPrefix.MEMORY).put([2], states(1, 4))


@pytest.mark.parametrize("place", [FrozenPrefix.MEMORY, FrozenPrefix.DISK])
def test_nothing_can_be_read_after_the_end(place: FrozenPrefix) -> None:
    kept = KeptStates(LENGTHS, FORM, place)
    kept.put([0], states(1, 3))
    kept.close()
    assert not any(kept.has([0]))
    with pytest.raises(BrokenGuaranteeError, match="deleted"):
        kept.get([0], 3)


def test_what_exceeds_the_free_memory_is_refused_without_the_records_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = sum(LENGTHS) * FORM.bytes_of_a_token
    monkeypatch.setattr(frozen_prefix_storage, "_free_memory", lambda: needed / 0.8 + 1)
    KeptStates(LENGTHS, FORM, FrozenPrefix.MEMORY)
    monkeypatch.setattr(frozen_prefix_storage, "_free_memory", lambda: needed / 0.8 - 2)
    with pytest.raises(ConfigurationError, match="at 16 bytes for every token") as refusal:
        KeptStates(LENGTHS, FORM, FrozenPrefix.MEMORY)
    assert str(needed) not in str(refusal.value)
    assert str(sum(LENGTHS)) not in str(refusal.value)


def test_memory_that_the_system_does_not_give_is_refused_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frozen_prefix_storage, "_free_memory", lambda: 1e30)
    with pytest.raises(ConfigurationError, match=r"performance\.frozen_prefix=memory"):
        KeptStates([2**55], FORM, FrozenPrefix.MEMORY)


def test_free_memory_is_at_most_that_of_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    information, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    use = tmp_path / "memory.stat"
    monkeypatch.setattr(frozen_prefix_storage, "_CONTAINER_USE", use)
    information.write_text("MemTotal:  900 kB\nMemAvailable:   700 kB\n")
    monkeypatch.setattr(frozen_prefix_storage, "_MEMORY_INFO", information)
    monkeypatch.setattr(frozen_prefix_storage, "_CONTAINER_LIMIT", limit)
    free = frozen_prefix_storage._free_memory
    assert free() == 700 * 1024
    limit.write_text("max\n")
    assert free() == 700 * 1024
    limit.write_text("2048\n")
    assert free() == 2048
    use.write_text("anon 1000\nfile 900\nshmem 40\n")
    assert free() == 1008


def test_no_file_has_a_name_once_it_is_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    monkeypatch.setenv("DPFT_PRIVATE", str(private))
    seen: list[tuple[int, int, list[Path]]] = []
    reserve = os.posix_fallocate

    def watched(descriptor: int, offset: int, size: int) -> None:
        found = os.fstat(descriptor)
        seen.append((stat.S_IMODE(found.st_mode), found.st_nlink, list(private.iterdir())))
        reserve(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", watched)
    old = os.umask(0)
    try:
        kept = KeptStates(LENGTHS, FORM, FrozenPrefix.DISK)
    finally:
        os.umask(old)
    assert seen == [(0o600, 0, [])]  # before it holds anything
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    kept.put([0], states(1, 3))
    assert torch.equal(kept.get([0], 3), states(1, 3))
    assert list(private.iterdir()) == []


def test_a_refusal_of_the_disk_does_not_name_the_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DPFT_PRIVATE", str(tmp_path))
    for tokens in (2**55, 2**58, 2**59):
        with pytest.raises(ConfigurationError, match="bytes for every token") as refusal:
            KeptStates([tokens], FORM, FrozenPrefix.DISK)
        assert str(tokens * FORM.bytes_of_a_token) not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_states_of_another_number_format_are_refused() -> None:
    with pytest.raises(BrokenGuaranteeError, match=r"got torch\.bfloat16"):
        KeptStates(LENGTHS, FORM, FrozenPrefix.MEMORY).put([0], states(1, 3).bfloat16())


def test_processes_of_one_machine_share_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(LENGTHS) * FORM.bytes_of_a_token
    monkeypatch.setattr(frozen_prefix_storage, "_free_memory", lambda: 2 * needed)
    KeptStates(LENGTHS, FORM, FrozenPrefix.MEMORY)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="frozen_prefix=memory"):
        KeptStates(LENGTHS, FORM, FrozenPrefix.MEMORY)


def test_a_full_disk_is_refused_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("DPFT_PRIVATE", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigurationError, match=r"performance\.frozen_prefix=disk"):
        KeptStates(LENGTHS, FORM, FrozenPrefix.DISK)
    assert list(tmp_path.iterdir()) == []


def test_the_disk_is_used_only_where_a_private_folder_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DPFT_PRIVATE")
    with pytest.raises(ConfigurationError, match="Set DPFT_PRIVATE"):
        KeptStates(LENGTHS, FORM, FrozenPrefix.DISK)
