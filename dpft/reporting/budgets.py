"""What a ledger has left of the budgets of a data set."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dpft.accounting import Certificate
from dpft.accounting.ledger import DatasetSummary, Entry, Ledger, summarise
from dpft.accounting.ledger.quotation import charged
from dpft.accounting.ledger.state import State
from dpft.errors import BrokenGuaranteeError, ConfigurationError

__all__ = ["BudgetState", "LedgerReading"]

BudgetState = DatasetSummary


@dataclasses.dataclass(frozen=True)
class LedgerReading:
    """A ledger as it was when the report was made.

    Args:
        path: Its file.
        entries: All entries, checked.
        state: What they add up to.

    Privacy:
        Public numbers and given names.
    """

    path: Path
    entries: Sequence[Entry]
    state: State

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a ledger.

        Args:
            path: Its file.

        Raises:
            ConfigurationError: If there is none.
            LedgerError: If it was edited.

        Privacy:
            Nothing, no data touched.
        """
        if not path.is_file():
            raise ConfigurationError(
                f"Expected ledger={path} to exist. There is nothing to compare with. Name the file "
                "that charged the runs."
            )
        with Ledger.read(path) as ledger:
            return cls(path, ledger.entries(), ledger.state)

    def require_charged(self, name: str, certificate: Certificate) -> None:
        """Raise unless every run of a certificate was charged here.

        Args:
            name: Of its folder.
            certificate: With what its runs started from.

        Raises:
            BrokenGuaranteeError: If one was not.

        Privacy:
            Nothing, no data touched (`test_a_ledger_that_does_not_know_a_run_is_refused`).
        """
        missing = [run.run_id for run in certificate.runs if not charged(self.entries, run)]
        if missing:
            raise BrokenGuaranteeError(
                f"Expected ledger={self.path} to have charged the run {missing[0]} of {name}. "
                "What it spent is not in what the ledger calls spent, so nothing can be said of "
                "what is left. Name the ledger that dpft train printed at its start, or leave "
                "--ledger out."
            )

    def states(
        self, dataset: str, certificate: Certificate, delta: float
    ) -> tuple[BudgetState, ...]:
        """Return the state of a data set, and of its parts that have a name of their own.

        Args:
            dataset: Its given name.
            certificate: All runs on it.
            delta: Where epsilon is stated if there is no budget.

        Returns:
            One summary for each name that the ledger has.

        Privacy:
            Nothing, no data touched: all runs of the ledger are counted, also those that were not
            given (`test_what_is_left_counts_runs_that_were_not_given`).
        """
        parts = {
            f"{dataset}, {use.partition.part}"
            for run in certificate.runs
            for use in run.touched
            if use.dataset_id == dataset and use.partition is not None
        }
        names = [name for name in (dataset, *sorted(parts)) if name in self.state.datasets]
        return tuple(summarise(self.state, name, delta) for name in names)
