"""Ledgers lie on local disks."""

from pathlib import Path

import pytest

from dpft.accounting.errors import LedgerError
from dpft.accounting.ledger import Ledger
from dpft.accounting.ledger.file_system import file_system_of, refuse_network

LINES = (
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
    r"30 27 0:40 / {mount} rw,relatime shared:1 - {kind} server:/export rw",
)


def table(tmp_path: Path, kind: str, mount: Path | None = None) -> Path:
    path = tmp_path / "mounts"
    named = str(mount or tmp_path).replace(" ", r"\040")
    path.write_text("\n".join(LINES).format(mount=named, kind=kind))
    return path


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "9p", "fuse.sshfs", "fuse.gcsfuse", "ceph"]
)
def test_network_file_systems_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(LedgerError, match=f"not on {kind}"):
        refuse_network(tmp_path, table(tmp_path, kind))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "apfs", "fuseblk"])
def test_local_file_systems_are_not(tmp_path: Path, kind: str) -> None:
    refuse_network(tmp_path, table(tmp_path, kind))


def test_the_nearest_mount_counts_also_with_a_space_in_its_name(tmp_path: Path) -> None:
    mount = tmp_path / "my share"
    (mount / "deep").mkdir(parents=True)
    mounts = table(tmp_path, "nfs", mount)
    assert file_system_of(mount / "deep", mounts) == "nfs"
    assert file_system_of(tmp_path, mounts) == "ext4"
    assert file_system_of(tmp_path, tmp_path / "no table") is None


def test_a_link_does_not_hide_where_a_ledger_lies(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")
    with pytest.raises(LedgerError, match="not on nfs"):
        refuse_network(tmp_path / "link", table(tmp_path, "nfs", tmp_path / "share"))


def test_no_ledger_is_made_or_opened_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(path).close()

    def refuse(folder: Path) -> None:
        refuse_network(folder, table(path.parent, "nfs"))

    monkeypatch.setattr("dpft.accounting.ledger.store.refuse_network", refuse)
    for file in (path, path.with_name("new.sqlite")):
        with pytest.raises(LedgerError, match="not on nfs"):
            Ledger.open(file)
    assert not path.with_name("new.sqlite").exists()
