"""Several runs and merges side by side: what each data set paid for all of them together."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from dpft.accounting import Certificate
from dpft.errors import ConfigurationError
from dpft.explanation import planned_delta
from dpft.reporting.budgets import BudgetState, LedgerReading
from dpft.reporting.merges import Merge
from dpft.reporting.reading import Source, read
from dpft.reporting.utility import Utility, utilities_of

__all__ = ["Comparison", "Spending", "Together", "compare"]


@dataclasses.dataclass(frozen=True)
class Together:
    """What several certificates spent together.

    Args:
        certificate: The union of their runs.
        epsilon: Of all runs that one unit can have been part of; infinite if one is not private.
        delta: The smallest that a run was planned with.

    Privacy:
        Nothing, no data touched: composed from the mechanisms, never added up from epsilons
        (`test_the_total_is_the_composition_of_the_runs`).
    """

    certificate: Certificate
    epsilon: float
    delta: float

    @classmethod
    def of(cls, sources: Iterable[Source]) -> "Together":
        """Compose the certificates of some folders.

        Args:
            sources: At least one.

        Raises:
            ConfigurationError: If they share no unit or relation, or one name stands for two runs.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched.
        """
        first, *others = (source.certificate for source in sources)
        certificate = first.compose(*others)
        delta = planned_delta(certificate)
        return cls(certificate, certificate.epsilon(delta), delta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """What was done to one data set.

    Args:
        dataset: Its given name.
        sources: The folders whose runs touched it.
        together: What they spent.
        private: What those with a guarantee spent, where some have none; else None.
        utilities: Metrics against epsilon.
        budgets: Its state in the ledger, by the names that the ledger has for it.

    Privacy:
        Released values, and functions of them.
    """

    dataset: str
    sources: tuple[Source, ...]
    together: Together
    private: Together | None
    utilities: tuple[Utility, ...]
    budgets: tuple[BudgetState, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the report of several folders states.

    Args:
        sources: The folders, in the order in which they were given.
        spendings: One for each data set, by name.
        together: What all runs spent if nobody's records are kept apart; None if that cannot be
            computed.
        why_not: Why it cannot, else empty.
        has_ledger: Whether a ledger was given.

    Privacy:
        Released values, and functions of them.
    """

    sources: tuple[Source, ...]
    spendings: tuple[Spending, ...]
    together: Together | None
    why_not: str
    has_ledger: bool


def compare(paths: Sequence[Path], ledger: Path | None = None) -> Comparison:
    """Read folders and compute what their common report states.

    Args:
        paths: Folders of runs and merges, at least one.
        ledger: The ledger that charged all of their runs; unset: nothing is said of budgets.

    Returns:
        The facts.

    Raises:
        ConfigurationError: As for `dpft.reporting.reading.read`; if a run is given twice, or runs
            of one data set differ in unit or relation.
        BrokenGuaranteeError: As for `read`, or if the ledger did not charge a run.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched (`tests/dpft/reporting/test_comparison.py`).
    """
    sources = tuple(read(path) for path in paths)
    _refuse_twice(sources)
    names = sorted({name for source in sources for name in _datasets(source)})
    by_name = {name: tuple(each for each in sources if name in _datasets(each)) for name in names}
    for name, touching in by_name.items():
        _refuse_mixed(name, touching)
    reading = None if ledger is None else LedgerReading.of(ledger)
    if reading is not None:
        for source in sources:
            reading.require_charged(source.name, source.certificate)
    together, why_not = _all_together(sources)
    return Comparison(
        sources=sources,
        spendings=tuple(_spending(name, each, reading) for name, each in by_name.items()),
        together=together,
        why_not=why_not,
        has_ledger=reading is not None,
    )


def _datasets(source: Source) -> set[str]:
    return {use.dataset_id for run in source.certificate.runs for use in run.touched}


def _refuse_twice(sources: Sequence[Source]) -> None:
    seen: dict[str, str] = {}
    for source in sources:
        key = source.publication.tensors if isinstance(source, Merge) else source.run.run_id
        if key in seen:
            raise ConfigurationError(
                f"Expected {source.name} to be given once, it is {seen[key]} again. A run that is "
                "listed twice would look like two. Name each folder once, and no copy of it."
            )
        seen[key] = source.name


def _refuse_mixed(dataset: str, sources: Sequence[Source]) -> None:
    for what in ("unit", "adjacency"):
        found: dict[str, str] = {}
        for source in sources:
            found.setdefault(getattr(source.certificate, what).value, source.name)
        if len(found) > 1:
            named = " and ".join(f"{value} in {name}" for value, name in found.items())
            raise ConfigurationError(
                f"Expected {what} of all runs on dataset={dataset} to be one, found {named}. Their "
                "epsilons are of different promises and cannot stand in one table. Make a report "
                "of each."
            )


def _all_together(sources: Sequence[Source]) -> tuple[Together | None, str]:
    try:
        return Together.of(sources), ""
    except ConfigurationError as error:  # such as data sets with other units
        return None, str(error)


def _spending(dataset: str, sources: tuple[Source, ...], reading: LedgerReading | None) -> Spending:
    together = Together.of(sources)
    private = [source for source in sources if source.certificate.is_bounded]
    is_mixed = math.isinf(together.epsilon) and bool(private)
    return Spending(
        dataset=dataset,
        sources=sources,
        together=together,
        private=Together.of(private) if is_mixed else None,
        utilities=utilities_of(sources),
        budgets=()
        if reading is None
        else reading.states(dataset, together.certificate, together.delta),
    )
