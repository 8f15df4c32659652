"""What a run has charged: one durable line in the run folder before every sample. No torch in here.

    {"fingerprint": {...}, "format_version": 2, "ledger": "...", "run_id": "..."}
    {"attach": 1, "name": "..."}    a process started
    {"intend": 1}                   the first step is about to be sampled
    {"intend": 2}
    ["failed", 2]                   it ended in an exception: nobody may resume

Lines are appended and never taken back; one that a crash tore is completed as a step that was
intended. One process at a time holds the file, by a lock of the operating system.
"""

import dataclasses
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn, Protocol

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.run_folder import make_durable, storing

__all__ = [
    "FORMAT_VERSION",
    "Charges",
    "ChargesFile",
    "Origin",
    "RunCharges",
    "RunHistory",
    "fingerprint_of",
    "has_failed",
    "hold",
    "noted_steps",
    "origin_of",
]

FORMAT_VERSION = 2
_NAME_BYTES = 16
_LONGEST_LINE = 1 << 20
_Entry = Mapping[str, Any] | list[Any]
_FAILED = "failed"
_TORN_FAILURE = b"["  # no other line begins so: what is left of a torn one cannot be mistaken


class Charges(Protocol):
    """Where a `PrivateStep` books a step before it is sampled."""

    @property
    def intended(self) -> int:
        """Steps booked so far, by all processes of the run."""
        ...

    def intend(self, step: int) -> None:
        """Book a step (0, 1, ...); once this returns, the booking survives a crash."""
        ...

    def fail(self, step: int) -> None:
        """Note that a booked step ended in an exception, so that nobody goes on after it."""
        ...


class RunCharges(Charges, Protocol):
    """The charges of a run that several processes may work on, one after the other."""

    @property
    def names(self) -> tuple[str, ...]:
        """Random names of the processes that worked on the run, the present one last."""
        ...

    def attach(self) -> None:
        """Note that a process starts."""
        ...


@dataclasses.dataclass(frozen=True)
class Origin:
    """Under which name a run was reserved, and where.

    Args:
        run_id: Random name of the run, the same for all its processes.
        ledger: Random name of the ledger, None if the run is in none.

    Privacy:
        Nothing, no data touched.
    """

    run_id: str
    ledger: str | None = None


@dataclasses.dataclass(frozen=True)
class RunHistory:
    """What became of the steps of a run.

    Args:
        starts: Processes that worked on it, >= 1.
        intended: Steps charged: all that were about to be sampled.
        updates: Steps whose update is in the final model, <= intended.

    Privacy:
        Public; when a process stopped must not depend on records (docs/resume.md).
    """

    starts: int
    intended: int
    updates: int

    @property
    def lost(self) -> int:
        """Steps charged whose update an interruption lost."""
        return self.intended - self.updates


@dataclasses.dataclass(frozen=True)
class _Tally:
    names: tuple[str, ...] = ()
    intended: int = 0
    failed: int | None = None

    def after(self, entry: Any, steps: int) -> "_Tally | None":
        """Return the tally after one more line, None if that line cannot stand here."""
        if self.failed is not None:
            return None
        match entry:
            case {"attach": int(number), "name": str(name), **rest}:
                fits = not rest and number == len(self.names) + 1 and name not in self.names
                return dataclasses.replace(self, names=(*self.names, name)) if fits else None
            case {"intend": int(number), **rest}:
                follows = number == self.intended + 1 <= steps
                # only a torn attachment, completed as a step, may stand before the first one
                fits = not rest and follows and bool(self.names or number == 1)
                return dataclasses.replace(self, intended=number) if fits else None
            case ["failed", int(number)]:
                fits = number == self.intended
                return dataclasses.replace(self, failed=number) if fits else None
        return None


class ChargesFile:
    """The charges of one run, kept in a file that one process at a time may hold.

    Args:
        path: The file; made by `attach` if absent.
        fingerprint: What must not change between the processes of a run, as JSON values.
        steps: Planned steps; no more are ever booked.
        origin: Name of the run in its ledger; unset: a new name, and no ledger.

    Raises:
        ConfigurationError: If another process holds the file, or the fingerprint or the origin is
            another.
        BrokenGuaranteeError: If a step of the run failed, or the file is damaged.

    Privacy:
        Once `intend` returned, the step is charged, whatever happens next: the line was written
        and synchronised with its folder (`tests/dpft/test_charges.py`). A torn last line counts as
        a step. The file holds public numbers and random names only.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, Any],
        steps: int,
        origin: Origin | None = None,
    ) -> None:
        """Lock and read what there is; nothing is written but the rest of a torn line."""
        self._path = path
        self._origin = origin
        self._fingerprint = json.loads(json.dumps(fingerprint))  # as it will be read back
        self._steps = steps
        self._tally = _Tally()
        self._file = _locked(path) if path.exists() else None
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    @property
    def intended(self) -> int:
        """Steps charged so far, by all processes of the run."""
        return self._tally.intended

    @property
    def names(self) -> tuple[str, ...]:
        """Random names of the processes that worked on the run, the present one last."""
        return self._tally.names

    def attach(self) -> None:
        """Note that a process starts; the file is made for the first one.

        Raises:
            ConfigurationError: If another process was quicker.
            StorageError: If that cannot be written.
        """
        if self._file is None:
            self._file = _created(self._path)
        if self._file.tell() == 0:
            self._begin(self._file)
        else:
            self._append(self._attachment())

    def intend(self, step: int) -> None:
        """Charge a step (0, 1, ...), durably.

        Raises:
            BrokenGuaranteeError: If it is not the one that follows.
            StorageError: If the line could not be written: then nothing may be sampled.
        """
        self._append({"intend": step + 1})

    def fail(self, step: int) -> None:
        """Note durably that the step charged last ended in an exception.

        Raises:
            StorageError: If that cannot be written; the run can then not be resumed either, for
                lack of its charges, unless not even their name can be changed.
        """
        try:
            self._append([_FAILED, step + 1])
        except (OSError, MemoryError):
            with storing(self._path, "the step did fail: the run must not be resumed"):
                self._path.rename(self._path.with_name(f"{self._path.name}.failed"))
            raise

    def close(self) -> None:
        """Let the file go, so that another process may hold it."""
        if self._file is not None:
            self._file.close()

    def _begin(self, file: FileIO) -> None:
        """Write the first lines, or none: a reservation they name is given back if they fail."""
        origin = self._origin or Origin(secrets.token_hex(_NAME_BYTES))
        header = {"format_version": FORMAT_VERSION, **dataclasses.asdict(origin)}
        try:
            self._write(header | {"fingerprint": self._fingerprint})
            self._append(self._attachment())
        except OSError:
            with suppress(OSError):  # then they stay, and a ledger refuses to go on
                file.truncate(0)
            raise

    def _read(self) -> None:
        if self._file is None:
            return
        *lines, torn = self._file.read().split(b"\n")
        if not lines:  # the first line never became whole, so nothing was charged
            self._file.seek(0)
            self._file.truncate()
            return
        self._check_header(_parsed(lines[0]))
        for number, line in enumerate(lines[1:], 2):
            tally = self._tally.after(_parsed(line), self._steps)
            self._tally = tally or self._refuse_damaged(number)
        self._refuse_failed()
        if torn:
            self._complete(torn)
            self._refuse_failed()

    def _check_header(self, header: Any) -> None:
        origin = _read_origin(header, self._path) or self._refuse_damaged(1)
        if self._origin not in {None, origin}:
            raise ConfigurationError(
                f"Expected {self._path} to be of run={self._origin}, got {origin}. It would be "
                "charged to another run. Resume with the ledger of the run, or start a new one."
            )
        _refuse_differences(header["fingerprint"], self._fingerprint)

    def _refuse_damaged(self, line: int) -> NoReturn:
        raise BrokenGuaranteeError(
            f"Expected line {line} of {self._path} to be whole and to follow the one before. "
            "Without it nobody knows how many steps were charged. Start a new run; it is a new "
            "release."
        )

    def _refuse_failed(self) -> None:
        if self._tally.failed is not None:
            raise BrokenGuaranteeError(
                f"Expected a run without a failed step, got one at step {self._tally.failed}. "
                "That a step fails may depend on a record. Start a new run; it is a new release."
            )

    def _complete(self, torn: bytes) -> None:
        """Complete a torn line in its place: as a step, unless it cannot have been one."""
        assert self._file is not None
        if torn.startswith(_TORN_FAILURE):
            entry: _Entry = [_FAILED, self.intended]
        elif self.intended < self._steps:
            entry = {"intend": self.intended + 1}
        else:
            entry = self._attachment()
        self._file.seek(-len(torn), os.SEEK_END)
        self._append(entry, length=len(torn))

    def _attachment(self) -> dict[str, Any]:
        return {"attach": len(self.names) + 1, "name": secrets.token_hex(_NAME_BYTES)}

    def _append(self, entry: _Entry, length: int = 0) -> None:
        """Write a line and count it; in this order, so that what is counted is durable."""
        tally = self._tally.after(entry, self._steps)
        if tally is None:
            raise BrokenGuaranteeError(
                f"Expected {entry} to follow {self.intended} of {self._steps} steps. Steps are "
                "charged once, in order, and none after a failed one. Start a new run."
            )
        self._write(entry, length)
        self._tally = tally

    def _write(self, entry: _Entry, length: int = 0) -> None:
        assert self._file is not None, "attach comes first"
        self._refuse_other_writer(self._file.tell() + length)
        line = json.dumps(entry, sort_keys=True).encode().ljust(length) + b"\n"
        with storing(self._path, "what it charged stays charged, and nothing else is sampled"):
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "no room for a whole line")
            os.fsync(self._file.fileno())

    def _refuse_other_writer(self, size: int) -> None:
        """Raise if somebody wrote in spite of the lock, as where machines do not share locks."""
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size != size:
            raise BrokenGuaranteeError(
                f"Expected {self._path} to end where this process left it. Another process "
                "continues the same run, and both would spend its budget. Run on a file system "
                "whose locks all machines share; start a new run, it is a new release."
            )


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep every other process away from a run, without changing its charges.

    Args:
        path: The file of the charges.

    Raises:
        ConfigurationError: If another process holds it.

    Privacy:
        Nothing, no data touched.
    """
    with _locked(path):
        yield


def has_failed(path: Path) -> bool:
    """Return whether a step of the run failed, so that it cannot be resumed.

    Args:
        path: The file of the charges.

    Privacy:
        Nothing, no data touched.
    """
    return b"\n[" in path.read_bytes()


def noted_steps(path: Path) -> int:
    """Return how many steps were charged at most, without holding the charges.

    Args:
        path: The file of the charges.

    Returns:
        Lines that charge a step; one that a crash tore counts as another.

    Privacy:
        Nothing, no data touched.
    """
    *whole, torn = path.read_bytes().split(b"\n")
    return sum(line.startswith(b'{"intend"') for line in whole) + bool(torn)


def origin_of(path: Path) -> Origin | None:
    """Return under which name a run was reserved, without holding its charges.

    Args:
        path: The file of the charges.

    Returns:
        What its first line says; None if there is no such line, so that nothing was charged.

    Raises:
        ConfigurationError: If it was written in another format.

    Privacy:
        Nothing, no data touched.
    """
    header = _header(path)
    return None if header is None else _read_origin(header, path)


def fingerprint_of(path: Path) -> dict[str, Any]:
    """Return what must not change between the processes of a run, without holding its charges.

    Args:
        path: The file of the charges.

    Returns:
        What its first line says; empty if it says nothing of it.

    Privacy:
        Nothing, no data touched.
    """
    match _header(path):
        case {"fingerprint": dict(fingerprint)}:
            return fingerprint
    return {}


def _header(path: Path) -> Any:
    """Return what the first line says, None if there is no whole one."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
    return _parsed(first) if first.endswith(b"\n") else None


def _read_origin(header: Any, path: Path) -> Origin | None:
    match header:
        case {"format_version": int(version)} if version != FORMAT_VERSION:
            raise ConfigurationError(
                f"Expected format_version={version} of {path} to be {FORMAT_VERSION}. Another "
                "version may count otherwise, and one before 2 knows no ledger. Resume with the "
                "version of dpft that started the run."
            )
        case {"run_id": str(run_id), "ledger": str() | None as ledger, "fingerprint": dict()}:
            return Origin(run_id, ledger) if "format_version" in header else None
    return None


def _created(path: Path) -> FileIO:
    with storing(path, "nothing was charged and no record was sampled"):
        try:
            file = FileIO(path, "x+")
        except FileExistsError:
            raise ConfigurationError(_in_use(path)) from None
        make_durable(path.parent)
        make_durable(path.parent.parent)
    return _lock(file, path)


def _locked(path: Path) -> FileIO:
    return _lock(FileIO(path, "r+"), path)


def _lock(file: FileIO, path: Path) -> FileIO:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigurationError(_in_use(path)) from None
    return file


def _in_use(path: Path) -> str:
    return (
        f"Expected run folder={path.parent} to be free, and on a file system that knows locks. "
        "Two processes that continue one run would spend its budget twice. Wait for the other "
        "process, or end it."
    )


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # also what is no UTF-8
        return None


def _refuse_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    absent = "(absent)"
    problems = [
        f"Expected {name}={now.get(name, absent)!r} to be {then.get(name, absent)!r} as when the "
        "run started. It would be another run under the same charges. Resume with the settings "
        "and the base model of the run, or start a new one."
        for name in sorted(then.keys() | now.keys())
        if then.get(name, absent) != now.get(name, absent)
    ]
    if problems:
        raise ConfigurationError(problems)
