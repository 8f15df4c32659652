"""What is reserved in a ledger: a run's mechanism on every data set it samples."""

import dataclasses

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.ledger.record_digests import RecordDigests
from dpft.accounting.mechanisms import Mechanism, first_steps, steps_of

__all__ = ["Lease", "Reservation", "Use"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Use:
    """What a run does to one data set.

    Args:
        dataset: Name of the data set.
        mechanism: All planned steps; None for a run without privacy, which is charged infinity.
        records: Digests of the records; unset: the data set counts as overlapping with every
            other, unless a public rule tells them apart.

    Raises:
        ConfigurationError: If the name is empty.

    Privacy:
        The digests stay in the ledger.
    """

    dataset: str
    mechanism: Mechanism | None
    records: RecordDigests | None = None

    def __post_init__(self) -> None:
        """Check the name."""
        if not isinstance(self.dataset, str) or not self.dataset.strip():
            raise ConfigurationError(
                f"Expected dataset_id={self.dataset!r} to be a name. Budgets are kept by name. Set "
                "privacy.dataset_id."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reservation:
    """What is to be reserved: everything one run will do.

    Args:
        run_id: Random name of the run, new.
        uses: At least one, each of another data set, all of the same number of steps.
        steps: Planned steps, >= 1.
        stop_rule: Public rule by which the run may stop early, in words; under plans that are
            `fixed` no step is given back without one.

    Raises:
        ConfigurationError: If there is no use, two are of one data set, or the steps differ.

    Privacy:
        All of it is public but the digests.
    """

    run_id: str
    uses: tuple[Use, ...]
    steps: int
    stop_rule: str | None = None

    def __post_init__(self) -> None:
        """Check what spans several uses."""
        names = [use.dataset for use in self.uses]
        lengths = {steps_of(use.mechanism) for use in self.uses if use.mechanism is not None}
        if not names or len(set(names)) < len(names) or lengths - {self.steps} or self.steps < 1:
            raise ConfigurationError(
                f"Expected uses of {names} with steps={sorted(lengths)} to be of different data "
                f"sets, and of steps={self.steps} each. A run is charged as it was planned. Name "
                "each data set once."
            )

    @classmethod
    def of(
        cls,
        run_id: str,
        dataset: str,
        mechanism: Mechanism,
        records: RecordDigests | None = None,
    ) -> "Reservation":
        """Return the reservation of one mechanism on one data set.

        Args:
            run_id: Random name, new.
            dataset: Name of the data set.
            mechanism: All planned steps.
            records: Digests of the records.

        Privacy:
            As the class.
        """
        use = Use(dataset=dataset, mechanism=mechanism, records=records)
        return cls(run_id=run_id, uses=(use,), steps=steps_of(mechanism))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease:
    """A reservation and how far it is used.

    Args:
        run_id: Random name of the run.
        uses: Mechanism by data set, without digests.
        steps: Planned steps.
        stop_rule: Public rule by which the run may stop early.
        token: How many processes attached; only the last one may go on.
        intended: Steps that may have been sampled.
        is_settled: Whether no step can follow.

    Privacy:
        Public numbers and names.
    """

    run_id: str
    uses: tuple[Use, ...]
    steps: int
    stop_rule: str | None
    token: int = 0
    intended: int = 0
    is_settled: bool = False

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(use.dataset for use in self.uses)

    def charged(self, dataset: str, *, adaptive: bool) -> list[Mechanism | None]:
        """Return what the run is charged on a data set: a list of at most one mechanism.

        Args:
            dataset: Name of the data set.
            adaptive: Whether a filter governs the budget, which gives back what never began.

        Returns:
            The whole reservation until the lease is settled, then the steps that may have been
            sampled if the rest may be given back; None in the list for a run without privacy.

        Privacy:
            Never less than what may have been sampled
            (`tests/accounting/ledger/test_charging.py`).
        """
        (mechanism,) = (use.mechanism for use in self.uses if use.dataset == dataset)
        given_back = self.is_settled and (adaptive or self.stop_rule is not None)
        if not given_back or self.intended == self.steps:
            return [mechanism]
        if self.intended == 0:
            return []
        return [None if mechanism is None else first_steps(mechanism, self.intended)]
