"""One file, one name: links to a ledger are followed or refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import Ledger, Reservation

Plan = Callable[..., Reservation]


@pytest.mark.parametrize("act", [Ledger.open, Ledger.read])
def test_a_ledger_with_two_names_is_refused(
    path: Path, tmp_path: Path, act: Callable[[Path], Ledger]
) -> None:
    Ledger.open(path).close()
    other = tmp_path / "other.sqlite"
    os.link(path, other)
    for name in (path, other):
        with pytest.raises(LedgerError, match="to have one name, got 2"):
            act(name)
    other.unlink()
    act(path).close()


def test_a_symbolic_link_is_followed_to_one_file(path: Path, tmp_path: Path, plan: Plan) -> None:
    Ledger.open(path).close()
    link = tmp_path / "elsewhere" / "link.sqlite"
    link.parent.mkdir()
    link.symlink_to(path)
    with Ledger.read(link) as looking:
        assert looking.path == path
    with Ledger.open(link) as one, Ledger.open(path) as other:
        assert one.path == other.path == path
        one.reserve(plan("a"))
        assert "a" in other.state.leases
        link.unlink()
        one.reserve(plan("b"))
    assert not list(link.parent.iterdir())


def test_a_link_that_names_nothing_yet_is_followed_too(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    Ledger.open(link).close()
    assert link.is_symlink()
    assert path.is_file()


def test_a_draft_that_a_crash_left_is_no_second_name(path: Path) -> None:
    Ledger.open(path).close()
    draft = path.with_name(f".{path.name}.0123456789abcdef")
    os.link(path, draft)
    Ledger.open(path).close()
