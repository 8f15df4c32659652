"""Where the ledger of a run lies. No torch in here."""

import os
from pathlib import Path

from dpft.privacy import Privacy

__all__ = ["FILE_NAME", "VARIABLE", "ledger_place"]

FILE_NAME = "dpft-ledger.sqlite"
VARIABLE = "DPFT_LEDGER"


def ledger_place(privacy: Privacy, out: Path | None) -> Path | None:
    """Return the file of the ledger.

    Args:
        privacy: Its `ledger` comes first.
        out: The run folder, None if the run writes none.

    Returns:
        `privacy.ledger`, else the file that `$DPFT_LEDGER` names, else dpft-ledger.sqlite beside
        the run folder; None if there is no run folder either: then nothing is charged.

    Privacy:
        Nothing, no data touched.
    """
    named = privacy.ledger or os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()  # as a shell does with --ledger ~/...
    return None if out is None else out.absolute().parent / FILE_NAME
