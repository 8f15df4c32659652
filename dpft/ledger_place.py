"""Where the ledger of a run lies. No torch in here."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpft.accounting.ledger import private_folder
from dpft.accounting.ledger.record_digests import would_travel_together
from dpft.errors import ConfigurationError
from dpft.privacy import Privacy

__all__ = ["FILE_NAME", "VARIABLE", "ledger_place", "named_ledger", "throwaway_ledger"]

FILE_NAME = "dpft-ledger.sqlite"
VARIABLE = "DPFT_LEDGER"
_ANYBODY = 0o002


def named_ledger(ledger: str | None) -> Path | None:
    """Return the ledger that somebody named.

    Args:
        ledger: A file, or None.

    Returns:
        That file, else the one that `$DPFT_LEDGER` names, else None.

    Privacy:
        Nothing, no data touched.
    """
    named = ledger or os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else None  # as a shell does with --ledger ~/...


@contextmanager
def throwaway_ledger() -> Iterator[str | None]:
    """Stand in for the ledger that `$DPFT_LEDGER` names, for runs on nobody's private records.

    Yields:
        A file in a folder that is deleted at the end, to be set as `privacy.ledger`; None where
        none is named, and none would be written.

    Privacy:
        Only for synthetic, invented or published records: whatever is charged there is forgotten
        (`test_a_named_ledger_hears_of_no_audit`, `test_no_named_ledger_hears_of_public_records`).
    """
    if named_ledger(None) is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / FILE_NAME)


def ledger_place(privacy: Privacy, out: Path | None) -> Path | None:
    """Return the file of the ledger.

    Args:
        privacy: Its `ledger` comes first.
        out: The run folder, None if the run writes none.

    Returns:
        `privacy.ledger`, else the file that `$DPFT_LEDGER` names, else dpft-ledger.sqlite beside
        the parent of the run folder, so that runs of all tasks under one folder share it and
        removing that folder does not remove it. It lies in the parent itself where it was before,
        where the parent is the working folder, or where the folder above is not the user's own, is
        the root, lies on another disk, or holds the key of the record digests; none of this counts
        where the user's ledger lies above already, or one folder further up. None if there is no
        run folder either: then nothing is charged.

    Raises:
        ConfigurationError: If there is a ledger in both places.

    Privacy:
        Nothing, no data touched. A ledger that is there is used rather than another made, which
        would know of no budget (`test_a_ledger_that_is_there_is_used`,
        `test_a_ledger_stays_in_use_when_its_folder_changes`).
    """
    named = named_ledger(privacy.ledger)
    if named is not None or out is None:
        return named
    parent = out.resolve().parent
    above = parent.parent
    fits = _may_hold_ledger(above, parent) or (above != parent and _holds_own_ledger(above))
    places = [parent, above] if fits else [parent]
    found = [place / FILE_NAME for place in places if (place / FILE_NAME).exists()]
    if not found and _holds_own_ledger(above.parent):  # runs/first made it, this is runs/task/first
        return above.parent / FILE_NAME
    if len(found) > 1:
        raise ConfigurationError(
            f"Expected one ledger for run folder={out}, found {found[0]} and {found[1]}. They know "
            "nothing of each other, and a budget in one binds no run that is charged in the other. "
            f"Name the right one by privacy.ledger or {VARIABLE}."
        )
    if found:
        return found[0]
    return (parent if parent == Path.cwd() else places[-1]) / FILE_NAME


def _may_hold_ledger(above: Path, parent: Path) -> bool:
    """Return whether a folder is the user's own, and stays with the runs beneath it."""
    if above == above.parent:
        return False
    found = _there(above).stat()
    own = found.st_uid == os.geteuid() and not found.st_mode & _ANYBODY
    with_runs = found.st_dev == _there(parent).stat().st_dev
    apart = not would_travel_together(private_folder().resolve(), above)
    return own and with_runs and apart and os.access(_there(above), os.W_OK)


def _holds_own_ledger(folder: Path) -> bool:
    """Return whether the user's ledger lies here, not a file or a link that others made."""
    try:
        return (folder / FILE_NAME).lstat().st_uid == os.geteuid()
    except OSError:  # there is none, or it cannot be looked at
        return False


def _there(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return folder if folder.exists() else _there(folder.parent)
