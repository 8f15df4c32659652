"""Where the hidden states of records are kept during a run: in memory, or in a file without a name.

One table [tokens of all records, D] holds them; rows are written when their record is first used.
Raw data of private records: nothing of it outlives the process, and nothing is released.

Legend: B records of a batch, T tokens, D width, N records, S tokens of all records.
"""

import dataclasses
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.performance import FrozenPrefix

__all__ = ["KeptStates", "StateFormat"]

_VARIABLE = "DPFT_PRIVATE"
_SHARE = 0.8  # of the free memory; the rest is left to the training itself
_MEMORY_INFO = Path("/proc/meminfo")
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CONTAINER_USE = Path("/sys/fs/cgroup/memory.stat")
_NEIGHBOURS = "LOCAL_WORLD_SIZE"  # processes of the run on this machine, as launchers say
_GIBIBYTE = 2**30


@dataclasses.dataclass(frozen=True)
class StateFormat:
    """What the hidden states of one token are.

    Args:
        width: D, at least 1.
        dtype: Number format.

    Privacy:
        Nothing, no data touched.
    """

    width: int
    dtype: torch.dtype

    @property
    def bytes_of_a_token(self) -> int:
        """Bytes that one token takes."""
        return self.width * self.dtype.itemsize


class KeptStates:
    """Hidden states of the records of a run, each as long as its record.

    Args:
        lengths: Number of tokens of each record; an empty one takes the place of one.
        form: What is kept of a token.
        place: Memory or disk.

    Raises:
        ConfigurationError: If they do not fit, or there is no folder for private files.

    Privacy:
        Raw data of private records, never logged or saved. On disk they lie in a file that only
        its owner may read and that has no name any more once it is open: it is gone when the
        process ends, however it ends
        (`tests/dpft/test_frozen_prefix_storage.py::test_no_file_has_a_name_once_it_is_open`).
        Whether they fit follows from the records; the operator is told, without their number.
    """

    def __init__(self, lengths: Sequence[int], form: StateFormat, place: FrozenPrefix) -> None:
        """Reserve the room for all of them; nothing is written yet."""
        self._lengths_N = torch.tensor(lengths, dtype=torch.long).clamp(min=1)
        self._starts_N = self._lengths_N.cumsum(0) - self._lengths_N
        self._is_kept_N = torch.zeros(len(lengths), dtype=torch.bool)
        tokens = int(self._lengths_N.sum())
        make = _on_disk if place is FrozenPrefix.DISK else _in_memory
        self._raw_states_SD: torch.Tensor | None = make(tokens, form)

    def close(self) -> None:
        """Give memory or disk back; nothing can be read any more.

        Privacy:
            Nothing is left (`test_nothing_can_be_read_after_the_end`).
        """
        self._raw_states_SD = None
        self._is_kept_N.zero_()

    def has(self, numbers: Sequence[int]) -> list[bool]:
        """Tell for each record whether its states are kept.

        Args:
            numbers: Numbers of records.

        Privacy:
            Which records were used is private.
        """
        kept: list[bool] = self._is_kept_N[torch.tensor(numbers)].tolist()
        return kept

    def raw_lengths(self, numbers: Sequence[int]) -> list[int]:
        """Return for how many tokens of each record there is room.

        Args:
            numbers: Numbers of records.

        Privacy:
            Raw, as the records.
        """
        lengths: list[int] = self._lengths_N[torch.tensor(numbers)].tolist()
        return lengths

    def put(self, numbers: Sequence[int], raw_states_BTD: torch.Tensor) -> None:
        """Keep the states of records.

        Args:
            numbers: Number of each record.
            raw_states_BTD: Their states; those of padding, on the right, are dropped.

        Raises:
            BrokenGuaranteeError: If a record has fewer states than tokens, or they are of another
                number format than the synthetic ones.

        Privacy:
            Raw data of these records.
        """
        which_B = torch.tensor(numbers)
        lengths_B = self._lengths_N[which_B]
        if int(lengths_B.max()) > raw_states_BTD.shape[1]:
            raise BrokenGuaranteeError(
                "Expected as many hidden states as a record has tokens. The collate cuts records, "
                "or the data set changes them from step to step. Give records as they are used, or "
                "set performance.frozen_prefix=off."
            )
        if raw_states_BTD.dtype is not self._table.dtype:
            raise BrokenGuaranteeError(
                f"Expected hidden states in {self._table.dtype} as before the first step, got "
                f"{raw_states_BTD.dtype}. They would be rounded, and training be another. Switch "
                "autocast on around both batches() and the step, or inside the loss, or set "
                "performance.frozen_prefix=off."
            )
        places_BT = torch.arange(raw_states_BTD.shape[1]).expand(raw_states_BTD.shape[:2])
        is_own_BT = places_BT < lengths_B.unsqueeze(1)
        rows = (self._starts_N[which_B].unsqueeze(1) + places_BT)[is_own_BT]
        own = raw_states_BTD[is_own_BT.to(raw_states_BTD.device)]
        self._table[rows] = own.to(self._table.device)
        self._is_kept_N[which_B] = True

    def get(self, numbers: Sequence[int], tokens: int) -> torch.Tensor:
        """Return the states [B, T, D] of records that are kept.

        Args:
            numbers: Number of each record.
            tokens: T, at least the longest of them. Padding repeats a record's last state, which
                norms take better than zeros.

        Privacy:
            Row b is a function of record b, raw.
        """
        which_B = torch.tensor(numbers)
        last_B1 = (self._lengths_N[which_B] - 1).unsqueeze(1)
        places_BT = torch.minimum(torch.arange(tokens).unsqueeze(0), last_B1)
        rows_BT = self._starts_N[which_B].unsqueeze(1) + places_BT
        return self._table[rows_BT]

    @property
    def _table(self) -> torch.Tensor:
        if self._raw_states_SD is None:
            raise BrokenGuaranteeError(
                "Expected no step after the end of the run. What the frozen blocks returned is "
                "deleted. Start a new run."
            )
        return self._raw_states_SD


def _in_memory(tokens: int, form: StateFormat) -> torch.Tensor:
    """Return a table whose pages are taken when they are first written."""
    neighbours = os.environ.get(_NEIGHBOURS, "")  # they all ask before any of them writes
    share = _SHARE / max(1, int(neighbours) if neighbours.isdigit() else 1)
    free = max(0, int(share * _free_memory()))
    try:
        if tokens * form.bytes_of_a_token <= free:
            return torch.empty(tokens, form.width, dtype=form.dtype)
    except RuntimeError:  # of torch's allocator; it would name the size
        pass
    raise _too_large(FrozenPrefix.MEMORY, free, form)


def _on_disk(tokens: int, form: StateFormat) -> torch.Tensor:
    """Return a table in a file whose name is gone already."""
    private = os.environ.get(_VARIABLE)
    if not private or not hasattr(os, "posix_fallocate"):
        raise ConfigurationError(
            f"Expected {_VARIABLE} to name a private folder with performance.frozen_prefix=disk, "
            "on a system where an open file may lose its name (Linux). Hidden states are raw data "
            f"of private records. Set {_VARIABLE}, or performance.frozen_prefix=memory."
        )
    parent = Path(private).expanduser()
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        mapped = _nameless(parent, tokens * form.bytes_of_a_token)
    except (OSError, OverflowError):  # which would name the size
        free = os.statvfs(parent)
        raise _too_large(FrozenPrefix.DISK, free.f_bavail * free.f_frsize, form) from None
    return torch.frombuffer(mapped, dtype=form.dtype).view(tokens, form.width)


def _nameless(parent: Path, size: int) -> mmap.mmap:
    """Return the memory of a file that lost its name before it held anything.

    All its blocks are taken at once: a disk that fills up later would kill the process.
    """
    descriptor, path = tempfile.mkstemp(prefix="frozen-prefix-", dir=parent)  # with mode 0600
    try:
        Path(path).unlink()
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def _free_memory() -> int:
    """Return the bytes that this process may take without another giving them up."""
    if not _MEMORY_INFO.exists():  # as on macOS, which tells what is there and not what is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    lines = dict(line.split(":") for line in _MEMORY_INFO.read_text().splitlines())
    free = 1024 * int(lines["MemAvailable"].split()[0])
    limit = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.exists() else "max"
    return min(free, int(limit) - _taken()) if limit.isdigit() else free


def _taken() -> int:
    """Return the bytes of its container that are taken for good: caches of files are not."""
    lines = _CONTAINER_USE.read_text().splitlines() if _CONTAINER_USE.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.split()[0] in {"anon", "shmem"})


def _too_large(place: FrozenPrefix, free: int, form: StateFormat) -> ConfigurationError:
    return ConfigurationError(
        f"Expected performance.frozen_prefix={place.value} to fit into {free / _GIBIBYTE:.1f} GiB "
        f"at {form.bytes_of_a_token} bytes for every token of every record. Steps would fail when "
        "it is full. Give more room, shorten records (architecture.max_length), or set "
        "performance.frozen_prefix=off."
    )
