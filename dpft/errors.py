"""Errors of the library, one tree.

    DpftError
    ├── ConfigurationError      (exit code 2) a setting is missing, wrong or contradicts another
    ├── BudgetError             (exit code 3) the run would exceed its privacy budget
    ├── LedgerError             (exit code 4) the ledger cannot be read, trusted or written
    ├── StorageError            (exit code 1) a file of a run or a merge cannot be written
    ├── LostProcessError        (exit code 1) another process of the run ended or cannot be reached
    └── BrokenGuaranteeError    (exit code 4) the privacy guarantee would not hold
        └── UnsupportedError    (exit code 4) the engine cannot clip this model exactly

All but the last four are defined in `dpft.accounting.errors`, the lowest layer. This module may be
imported by everything; it imports nothing heavy.
"""

from dpft.accounting.errors import BudgetError, ConfigurationError, DpftError, LedgerError

__all__ = [
    "BrokenGuaranteeError",
    "BudgetError",
    "ConfigurationError",
    "DpftError",
    "LedgerError",
    "LostProcessError",
    "StorageError",
    "UnsupportedError",
]


class StorageError(DpftError, OSError):
    """A file cannot be written: the disk is full, or read-only, or the right to write is missing.

    Privacy:
        Nothing is sampled whose charge is not on the disk, and what was charged stays charged
        (`tests/faults/test_disks.py`).
    """


class LostProcessError(DpftError):
    """Another process of the run ended or cannot be reached.

    Privacy:
        An interruption: what was charged stays charged, and the run may be resumed. A process whose
        step failed says so before it ends, and then the run may not
        (`tests/dpft/test_processes.py`).
    """


class BrokenGuaranteeError(DpftError):
    """The privacy guarantee would not hold; nothing was released.

    Privacy:
        Raised before the optimiser moves. Messages name parameters, operations and shapes of
        public things only.
    """

    exit_code = 4


class UnsupportedError(BrokenGuaranteeError):
    """The model does something for which per-record gradients cannot be shown to be exact.

    Privacy:
        Refusing is the safe answer: nothing was trained and nothing released.
    """
