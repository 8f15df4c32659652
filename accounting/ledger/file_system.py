"""Which file system a ledger would lie on: its locks must hold, and a write must be durable.

SQLite's write-ahead log needs shared memory of one machine, so that two machines on a network file
system could both overspend. Such file systems are refused by name. Where the system has no mount
table to read (it is Linux's), nothing is known and nothing refused.
"""

import re
from pathlib import Path

from dpft.accounting.errors import LedgerError

__all__ = ["file_system_of", "refuse_network"]

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "prl_fs",
    "pvfs2",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
}
_LOCAL_FUSE = {"fuseblk", "fuse.ext4", "fuse.fuse-overlayfs", "fuse.ntfs-3g"}


def file_system_of(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the file system that a path lies on.

    Args:
        path: An existing file or folder.
        mounts: Mount table in the form of Linux's mountinfo.

    Returns:
        Name of the type as the mount table has it; None where there is no such table.

    Privacy:
        Nothing, no data touched.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    found = None
    longest = -1
    for mount, kind in filter(None, map(_parsed, lines)):
        # of several mounts on one folder the last one is seen
        if resolved.is_relative_to(mount) and len(mount.parts) >= longest:
            found, longest = kind, len(mount.parts)
    return found


def refuse_network(path: Path, mounts: Path = _MOUNTS) -> None:
    """Raise if a path lies on a file system that several machines may share.

    Args:
        path: An existing file or folder.
        mounts: Mount table in the form of Linux's mountinfo.

    Raises:
        LedgerError: If it does; user-space file systems count, unless known to be local.

    Privacy:
        Nothing, no data touched. Two machines cannot jointly overspend
        (`tests/accounting/ledger/test_file_system.py`).
    """
    kind = file_system_of(path, mounts)
    foreign_fuse = kind is not None and kind.startswith("fuse") and kind not in _LOCAL_FUSE
    if kind in _NETWORK or foreign_fuse:
        raise LedgerError(
            f"Expected ledger folder={path} to lie on a local disk, not on {kind}. Locks and "
            "shared memory of SQLite do not hold between machines, so that two runs could spend "
            "one budget. Set privacy.ledger or DPFT_LEDGER to a file on a local disk."
        )


def _parsed(line: str) -> tuple[Path, str] | None:
    """Return mount point and type of a line; a space in a path is written as an octal number."""
    before, separator, after = line.partition(" - ")
    fields = before.split()
    if not separator or len(fields) < 5 or not after.split():
        return None
    mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    return Path(mount), after.split()[0]
