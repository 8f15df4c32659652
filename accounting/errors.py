"""Errors of the lowest layer, and the exit codes of the command line.

    DpftError                   (exit code 1) anything the library refuses
    ├── ConfigurationError      (exit code 2) a setting is missing, wrong or contradicts another
    ├── AccountantError         (exit code 2) an accountant failed, so there is no bound
    ├── BudgetError             (exit code 3) the run would exceed its privacy budget
    └── LedgerError             (exit code 4) the ledger cannot be read, trusted or written

`dpft.errors` adds the errors that need a model. This module imports nothing.
"""

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "AccountantError",
    "BudgetError",
    "ConfigurationError",
    "DpftError",
    "LedgerError",
]


class DpftError(Exception):
    """Anything the library refuses.

    Privacy:
        Messages hold public settings only, never anything computed from records.
    """

    exit_code: ClassVar[int] = 1


class ConfigurationError(DpftError, ValueError):
    """One or more settings are missing, out of range or contradict each other.

    Args:
        messages: One message, or all that were found; at least one.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> ConfigurationError(["first", "second"]).messages
        ('first', 'second')
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, messages: Sequence[str] | str) -> None:
        self.messages = (messages,) if isinstance(messages, str) else tuple(messages)
        super().__init__("\n".join(self.messages))


class AccountantError(DpftError):
    """An accountant failed numerically, so there is no number it could vouch for.

    Privacy:
        Refusing is the safe answer: a bound that was not computed is never reported.
    """

    exit_code: ClassVar[int] = 2


class BudgetError(DpftError):
    """The run would exceed the privacy budget of a data set.

    Privacy:
        Raised before anything is sampled; nothing was spent.
    """

    exit_code: ClassVar[int] = 3


class LedgerError(DpftError):
    """The ledger cannot be read, trusted or written.

    Privacy:
        Raised before anything is sampled: without a ledger the guarantee would be void.
    """

    exit_code: ClassVar[int] = 4
