"""Charges of a run that is booked in a ledger: the run folder's line first, then the ledger's."""

import secrets
from contextlib import suppress

from dpft.accounting.errors import LedgerError
from dpft.booking import Booking
from dpft.charges import RunCharges

__all__ = ["BookedCharges"]


class BookedCharges:
    """What a run charges, in its folder and in its ledger.

    Args:
        booking: The run in its ledger.
        charges: Its charges in the run folder; unset: there is no folder, the ledger alone counts.
        noise: Public name of the source of the noise.

    Privacy:
        A step is sampled once both hold it. After a crash between the two the folder knows more,
        and the ledger catches up when the run is resumed (`tests/dpft/test_booking.py`).
    """

    def __init__(self, booking: Booking, charges: RunCharges | None, noise: str) -> None:
        """Keep what is needed; nothing is written."""
        self._booking = booking
        self._charges = charges or _Unwritten()
        self._noise = noise

    @property
    def intended(self) -> int:
        """Steps charged so far, by all processes of the run."""
        return self._charges.intended

    @property
    def names(self) -> tuple[str, ...]:
        """Random names of the processes that worked on the run, the present one last."""
        return self._charges.names

    def attach(self) -> None:
        """Note that this process starts, in the folder and in the ledger.

        Raises:
            BrokenGuaranteeError: If the ledger knows of more steps than the folder.
            LedgerError: If the run is settled in the ledger, or that cannot be written.
        """
        self._booking.refuse_put_back(self._charges.intended)
        self._charges.attach()
        self._booking.attach(self._charges.intended, self._noise)

    def intend(self, step: int) -> None:
        """Charge a step (0, 1, ...), durably.

        Raises:
            BrokenGuaranteeError: If it is not the one that follows.
            LedgerError: If another process holds the run, or the entry cannot be written.
        """
        self._charges.intend(step)
        self._booking.intend(step + 1)

    def fail(self, step: int) -> None:
        """Note that the step charged last ended in an exception: nobody goes on after it."""
        try:
            self._charges.fail(step)
        finally:  # the folder's disk may be full: a run that is settled is not resumed either
            with suppress(LedgerError):  # what is not given back stays charged, which is safe
                self._booking.settle()


class _Unwritten:
    """Counts steps of a run that has no folder."""

    def __init__(self) -> None:
        self.intended = 0
        self.names = (secrets.token_hex(16),)

    def attach(self) -> None:
        pass

    def intend(self, step: int) -> None:
        self.intended = step + 1

    def fail(self, step: int) -> None:
        pass
