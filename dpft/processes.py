"""Several processes on one run: who leads, and what they send to each other.

The lead (rank 0) alone charges steps, adds noise, holds the optimiser and writes files. The others
compute a part of every clipped sum on the weights that the lead sent them. Everything goes through
torch.distributed, whose group a launcher, accelerate or the caller made, or is made here from a
launcher's environment. May be imported by `dpft.private_step` and what stands on it.
"""

import atexit
import dataclasses
import functools
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

import torch
from torch import distributed, nn

from dpft.errors import BrokenGuaranteeError, ConfigurationError, LostProcessError
from dpft.processes_launcher import processes_asked_for

__all__ = ["Processes", "ending_together", "joined"]

_LEAD = 0
_BUCKET = 2**24  # entries sent at once: 64 MiB of float32, beside the tensors themselves
_DIGEST_BYTES = 32
_DONE, _MORE, _FAILED = range(3)  # what a process says when all meet, the worst last
_left: list[int] = []  # ranks that this process held in groups it left because something failed
_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of one run, as one of them sees them.

    Args:
        rank: Number of this process, 0 <= rank < count; 0 leads.
        count: Number of processes.
        device: Where what they exchange lies.

    Privacy:
        Raw clipped sums go from all processes to the lead, in memory and over the network between
        them, which nobody else may read. Without noise they are in no file of any process
        (`tests/dpft/test_processes.py`).
    """

    rank: int = _LEAD
    count: int = 1
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def alone(cls) -> "Processes":
        """Return a run of one process, for which nothing here does anything."""
        return cls()

    @property
    def is_lead(self) -> bool:
        """Whether this process charges steps, adds noise and writes files."""
        return self.rank == _LEAD

    @property
    def are_several(self) -> bool:
        """Whether there is anybody else."""
        return self.count > 1

    @property
    def have_parted(self) -> bool:
        """Whether there were others, whose group this process has left."""
        return self.are_several and not _is_initialised()

    def require_unchanged(self, model: nn.Module) -> None:
        """Raise if this process belongs to other processes than it did.

        Args:
            model: The model that they train.

        Raises:
            ConfigurationError: If a group was made since, or made anew.
            LostProcessError: If this process left its run because something failed.

        Privacy:
            Nothing, no data touched. A process that took itself for the only one would train
            for itself (`test_a_group_that_is_made_after_the_step_is_refused`).
        """
        now = joined(model)
        if (now.rank, now.count) != (self.rank, self.count):
            raise ConfigurationError(
                f"Expected the {self.count} processes that there were when the step was made, got "
                f"{now.count}. Each would train for itself, at the full cost. Make the group "
                "before dpft.PrivateStep."
            )

    def sum_on_lead(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace the lead's tensors by their sums over all processes.

        Args:
            tensors: As many, of the same shapes, on every process.

        Raises:
            LostProcessError: If another process is gone.

        Privacy:
            The sums are as raw as what is added; the other processes keep what they had.
        """
        for bucket in self._buckets(tensors):
            raw_flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._call(distributed.reduce, raw_flat, dst=_LEAD)
            if self.is_lead:
                _spread(raw_flat, bucket)

    def from_lead(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors by the lead's.

        Args:
            tensors: As many, of the same shapes, on every process.

        Raises:
            LostProcessError: If another process is gone.

        Privacy:
            What the lead hands out is released already, or public.
        """
        for bucket in self._buckets(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
            self._call(distributed.broadcast, flat.view(torch.uint8), src=_LEAD)
            if not self.is_lead:
                _spread(flat, bucket)

    def numbers_from_lead(self, numbers: Sequence[int]) -> list[int]:
        """Return the lead's integers.

        Args:
            numbers: As many on every process; only the lead's count.

        Raises:
            LostProcessError: If another process is gone.

        Privacy:
            Nothing, no data touched.
        """
        told = torch.tensor(list(numbers), dtype=torch.int64, device=self.device)
        self.from_lead([told])
        return [int(each) for each in told]

    def text_from_lead(self, text: str) -> str:
        """Return the lead's text.

        Args:
            text: Only the lead's counts.

        Raises:
            LostProcessError: If another process is gone.

        Privacy:
            Nothing, no data touched.
        """
        content = text.encode()
        (size,) = self.numbers_from_lead([len(content)])
        if not self.is_lead:
            content = bytes(size)
        told = torch.tensor(list(content), dtype=torch.uint8, device=self.device)
        self.from_lead([told])
        return bytes(told.tolist()).decode()

    def largest(self, number: int) -> int:
        """Return the largest of the processes' integers, on all of them.

        Raises:
            LostProcessError: If another process is gone.

        Privacy:
            To be asked of public numbers alone, or kept as secret as what it was asked of.
        """
        if not self.are_several:
            return number
        found = torch.tensor([number], dtype=torch.int64, device=self.device)
        self._call(distributed.all_reduce, found, op=distributed.ReduceOp.MAX)
        return int(found)

    def require_same(self, facts: Mapping[str, Iterable[bytes]]) -> None:
        """Raise on every process unless all hold the same facts.

        Args:
            facts: What has to be the same, by name; the same names everywhere.

        Raises:
            ConfigurationError: Naming the facts that differ anywhere.
            LostProcessError: If another process is gone.

        Privacy:
            Compared are digests under a key that the lead draws for this call and nobody keeps;
            they stay in memory (`test_no_digest_of_records_is_written`).
        """
        if not self.are_several:
            return
        key = torch.tensor(list(secrets.token_bytes(_DIGEST_BYTES)), dtype=torch.uint8)
        key = key.to(self.device)
        self.from_lead([key])
        mine = [_digest(bytes(key.tolist()), content) for content in facts.values()]
        own = torch.tensor(mine, dtype=torch.uint8, device=self.device)
        found = [torch.empty_like(own) for _ in range(self.count)]
        self._call(distributed.all_gather, found, own)
        same = torch.stack([(each == found[_LEAD]).all(dim=1) for each in found]).all(dim=0)
        differing = [name for name, fits in zip(facts, same.tolist(), strict=True) if not fits]
        if differing:
            raise ConfigurationError(
                f"Expected all {self.count} processes to have the same {', '.join(differing)}. "
                "They train one model together: a record that two of them hold in different "
                "places could enter a step twice. Start the same script with the same data."
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold a part of a step that fails on all processes if it fails on one.

        Raises:
            BrokenGuaranteeError: If it failed on another process.
            LostProcessError: If another process is gone.

        Privacy:
            That a step fails may depend on a record, so that nobody may go on after it
            (`test_a_worker_that_raises_ends_the_run_for_good`).
        """
        with self.telling():
            yield
        self.another_pass(here=False)

    def another_pass(self, *, here: bool) -> bool:
        """Return whether any process has another pass to make, once all have been asked.

        Args:
            here: Whether this one has.

        Raises:
            BrokenGuaranteeError: If another process says instead that it failed.
            LostProcessError: If another process is gone.

        Privacy:
            That a process has another pass depends on its sample, and is told to nobody else.
        """
        found = self._meet(_MORE if here else _DONE)
        if found == _FAILED:
            raise BrokenGuaranteeError(
                "Expected the step to succeed on all processes, but it failed on another one, "
                "which says why. That it fails may depend on a record. Start a new run; it is a "
                "new release."
            )
        return found == _MORE

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Hold what comes before `together` in a step: if it fails, the others learn it there.

        Privacy:
            Nothing, no data touched.
        """
        try:
            yield
        except LostProcessError:
            raise
        except Exception:
            with suppress(LostProcessError):  # whoever is gone need not be told
                self._meet(_FAILED)
            raise

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Hold what ends on all processes if it fails on one, at whatever point.

        Privacy:
            Nothing, no data touched.
        """
        try:
            yield
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Leave the group, so that whatever the others wait for ends in an error.

        Privacy:
            Nothing, no data touched. This process trains nothing any more: alone it would start a
            run of its own (`test_nobody_trains_alone_after_a_failure`).
        """
        if self.are_several:
            _left.append(self.rank)
            if distributed.is_initialized():
                distributed.destroy_process_group()

    def _meet(self, news: int) -> int:
        """Return the worst news of all; if something failed, once the lead knows it."""
        worst = self.largest(news)
        if worst == _FAILED:  # who leaves too early may take the news along
            self.numbers_from_lead([0])
        return worst

    def _buckets(self, tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        """Yield tensors of one dtype together, in parts of bounded size; nothing if alone."""
        if not self.are_several:
            return
        by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
        for tensor in tensors:
            bucket = by_dtype.setdefault(tensor.dtype, [])
            if bucket and sum(each.numel() for each in bucket) + tensor.numel() > _BUCKET:
                yield bucket
                bucket = by_dtype[tensor.dtype] = []
            bucket.append(tensor)
        yield from by_dtype.values()

    def _call(self, collective: Callable[..., Any], *given: Any, **named: Any) -> None:
        try:
            collective(*given, **named)
        except (RuntimeError, ValueError) as error:  # the latter if there is no group any more
            raise LostProcessError(
                f"Expected all {self.count} processes to be there, but one of them ended or cannot "
                "be reached. What was charged stays charged. Resume the run, on as many processes "
                "as there are."
            ) from error


def joined(model: nn.Module) -> Processes:
    """Return the processes that this one belongs to.

    Args:
        model: The model that they train; what they exchange lies on its device.

    Returns:
        The initialised group; else one that is made from a launcher's environment, by gloo or, on
        CUDA, nccl; else this process alone.

    Raises:
        ConfigurationError: If the environment speaks of other processes than the group.
        LostProcessError: If this process left the run because something failed.

    Privacy:
        Nothing, no data touched. Processes that were started together never train each for itself,
        which would multiply what the ledger says
        (`test_a_launcher_without_a_group_starts_one_run`).
    """
    if _left:
        raise LostProcessError(
            "Expected no training in a process whose run failed on one of several processes. It "
            "has left the others and would train alone. Start all processes anew."
        )
    asked, device = processes_asked_for(), _device_of(model)
    if not _is_initialised():
        if asked == 1:
            return Processes.alone()
        _join(device)
    count = distributed.get_world_size()
    if asked not in {1, count}:
        raise ConfigurationError(
            f"Expected a group of WORLD_SIZE={asked} processes, got one of {count}. Processes "
            "outside it would train for themselves, each at the full cost. Let all of them join."
        )
    return Processes(distributed.get_rank(), count, device)


def ending_together(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a function whose failure on one process ends it on all of them.

    Args:
        function: Called on all processes at the same time.

    Privacy:
        Nothing, no data touched.
    """

    @functools.wraps(function)
    def called(*given: _P.args, **named: _P.kwargs) -> _R:
        try:
            return function(*given, **named)
        except BaseException:
            if _is_initialised():
                Processes(distributed.get_rank(), distributed.get_world_size()).abandon()
            raise

    return called


def _device_of(model: nn.Module) -> torch.device:
    """Return where the first trained parameter lies, else the first one of all."""
    held = sorted(model.parameters(), key=lambda parameter: not parameter.requires_grad)
    return held[0].device if held else torch.device("cpu")


def _is_initialised() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _join(device: torch.device) -> None:
    """Make the group that a launcher's environment describes."""
    if not distributed.is_available():
        raise ConfigurationError(
            "Expected WORLD_SIZE to be 1 with a torch that was built without distributed. Each "
            "process would train for itself, at the full cost. Install another build, or start one "
            "process."
        )
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except ValueError as error:  # a variable of the environment is missing
        raise ConfigurationError(
            f"Expected a launcher's environment beside WORLD_SIZE: {error}. Without it the "
            "processes do not find each other. Start them by torchrun or accelerate launch."
        ) from error
    atexit.register(_leave)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


@torch.no_grad()
def _spread(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    """Write a flat tensor into the tensors it was made of."""
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()


def _digest(key: bytes, content: Iterable[bytes]) -> list[int]:
    digest = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES)
    for part in content:
        digest.update(len(part).to_bytes(8, "little") + part)
    return list(digest.digest())
