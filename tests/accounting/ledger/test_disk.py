"""Full disks and read-only files are errors that lose nothing."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import Ledger, Reservation, verify

Plan = Callable[..., Reservation]
STEPS = 5000
FILLER = """
import resource, sys
from pathlib import Path
from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import Ledger

path, room = Path(sys.argv[1]), int(sys.argv[2])
with Ledger.open(path) as ledger:
    token = ledger.attach("a")
    log = path.with_name(path.name + "-wal")
    largest = max(path.stat().st_size, log.stat().st_size) + room
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    done = 0
    try:
        for step in range(1, 5000):
            ledger.intend("a", token, upto=step)
            done = step
    except LedgerError as error:
        assert "Make room" in str(error), error
        print(done)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    known = ledger.state.lease("a").intended
    assert known >= done, "what was charged is still known"
    ledger.intend("a", token, upto=known + 1)  # and with room again it goes on
"""


@pytest.mark.parametrize("room", [10, 30_000])
def test_a_full_disk_is_an_error_and_loses_nothing(path: Path, plan: Plan, room: int) -> None:
    with Ledger.open(path) as ledger:
        ledger.reserve(plan("a", steps=STEPS))
    command = [sys.executable, "-c", FILLER, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    charged = int(done.stdout)
    assert charged < STEPS - 1
    assert charged > 0 or room == 10
    with Ledger.open(path) as ledger:
        verify(ledger)
        assert charged + 1 <= ledger.state.lease("a").intended <= charged + 2


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Root may write everywhere, so it steps down for as long as it takes."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that everybody may enter: pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="dpft-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", [0o555, 0o777])
def test_a_read_only_ledger_is_an_error_and_loses_nothing(
    shared: Path, plan: Plan, mode: int
) -> None:
    path = shared / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.reserve(plan("a"))
        head = ledger.head
    path.chmod(0o444)
    shared.chmod(mode)
    with without_rights():
        with (
            pytest.raises(LedgerError, match="Make room or give the right"),
            Ledger.open(path) as ledger,
        ):
            ledger.reserve(plan("b"))
        with Ledger.read(path) as looked_at:
            assert verify(looked_at).head == head
    path.chmod(0o644)
    shared.chmod(0o755)
    with Ledger.open(path) as ledger:
        assert ledger.head == head
        ledger.reserve(plan("b"))


def test_a_ledger_that_cannot_be_made_is_an_error(shared: Path) -> None:
    shared.chmod(0o555)
    with without_rights(), pytest.raises(LedgerError, match="to be made"):
        Ledger.open(shared / "deep" / "ledger.sqlite")


def test_what_was_refused_by_the_disk_is_not_believed(
    path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(path) as ledger:
        ledger.reserve(plan("a"))
        token = ledger.attach("a")

        def fail(*_: object) -> None:
            raise LedgerError("full")

        with monkeypatch.context() as patch:
            patch.setattr("dpft.accounting.ledger.store.Store.append", fail)
            with pytest.raises(LedgerError, match="full"):
                ledger.intend("a", token, upto=4)
        assert ledger.state.lease("a").intended == 0
        ledger.intend("a", token, upto=1)


def test_every_entry_is_synchronised_before_the_call_returns(path: Path, plan: Plan) -> None:
    with Ledger.open(path) as ledger:
        pragma = ledger._store._connection.execute
        assert pragma("PRAGMA synchronous").fetchone() == (2,)
        assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
        assert not ledger._store._connection.in_transaction
        ledger.reserve(plan("a"))
        assert not ledger._store._connection.in_transaction
