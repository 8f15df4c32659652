"""What stands in a ledger, in numbers for people."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from dpft.accounting.errors import AccountantError, ConfigurationError
from dpft.accounting.ledger.budget import Budget, Plans, planned_epsilon
from dpft.accounting.ledger.lease import Lease
from dpft.accounting.ledger.state import State
from dpft.accounting.mechanisms import Mechanism

__all__ = ["DatasetSummary", "RunSummary", "summarise"]

_Charges = list[Mechanism | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run on one data set.

    Args:
        run_id: Random name.
        mechanism: What is charged under adaptive plans, as JSON values; None without privacy or
            if nothing is charged.
        private: Whether it has privacy at all.
        steps: Planned steps.
        intended: Steps that may have been sampled.
        settled: Whether no step can follow.

    Privacy:
        Public.
    """

    run_id: str
    mechanism: dict[str, object] | None
    private: bool
    steps: int
    intended: int
    settled: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """One data set.

    Args:
        dataset: Its name.
        budget_epsilon: Epsilon of its budget, None if none is set.
        delta: Of the budget, else the one asked for.
        plans: How runs are added up; None without a budget. Plans that were not all declared
            fixed before the first output, also of data sets that share records, are adaptive.
        spent_epsilon: What is taken of the budget, in the way of its plans: the smallest epsilon
            that would have let it through.
        spent_share: The part of the budget that is used up, which adds up over runs under adaptive
            plans, where epsilon does not; None without a budget.
        planned_epsilon: Epsilon for this fixed set of runs; None if no accountant can say.
        shares_with: Data sets that share records with it, or were never compared.
        runs: The runs on it, in order of their reservation.

    Privacy:
        Public. That data sets share records is in it, how many is not.
    """

    dataset: str
    budget_epsilon: float | None
    delta: float
    plans: str | None
    spent_epsilon: float | None
    spent_share: float | None
    planned_epsilon: float | None
    shares_with: tuple[str, ...]
    runs: tuple[RunSummary, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; infinity as the word ``infinite``.

        Privacy:
            Public.
        """
        values = dataclasses.asdict(self)
        return {
            name: "infinite" if value == float("inf") else value for name, value in values.items()
        }


def summarise(state: State, dataset: str, delta: float = 1e-5) -> DatasetSummary:
    """Sum up what is charged to a data set.

    Args:
        state: The ledger.
        dataset: Name of a data set in it.
        delta: Where epsilon is stated if the data set has no budget, in (0, 1).

    Returns:
        The largest over all sets of data sets that share records with it.

    Raises:
        ConfigurationError: If the data set is not in the ledger.

    Privacy:
        Nothing, no data touched.
    """
    if dataset not in state.datasets:
        raise ConfigurationError(
            f"Expected dataset={dataset} to be in the ledger, which has "
            f"{', '.join(state.datasets) or 'none'}. A name that was never used spent nothing. "
            "Correct the name."
        )
    # of a data set that was never used nobody knows what it shares, and nothing is charged to it
    cliques = state.cliques(dataset) if dataset in state.keys else [(dataset,)]
    budgets = [state.budget_among(dataset, clique) for clique in cliques]
    charged = [_charged(state, *pair) for pair in zip(cliques, budgets, strict=True)]
    governed = [(budget, each) for budget, each in zip(budgets, charged, strict=True) if budget]
    # adaptive plans, where there are both, come first
    budget = min(filter(None, budgets), key=lambda each: each.plans.value, default=None)
    at = delta if budget is None else budget.delta
    neighbours = state.neighbours(dataset) if dataset in state.keys else [dataset]
    return DatasetSummary(
        dataset=dataset,
        budget_epsilon=None if budget is None else budget.epsilon,
        delta=at,
        plans=None if budget is None else budget.plans.value,
        spent_epsilon=_largest(lambda: [each.spent(paid) for each, paid in governed]),
        spent_share=_largest(lambda: [each.share(paid) for each, paid in governed]),
        planned_epsilon=_largest(lambda: [planned_epsilon(each, at) for each in charged]),
        shares_with=tuple(name for name in neighbours if name != dataset),
        runs=tuple(_run(lease, dataset) for lease, _ in state.leases_on([dataset])),
    )


def _charged(state: State, clique: Sequence[str], budget: Budget | None) -> _Charges:
    adaptive = budget is None or budget.plans is Plans.ADAPTIVE
    return [
        mechanism
        for lease, name in state.leases_on(clique)
        for mechanism in lease.charged(name, adaptive=adaptive)
    ]


def _largest(numbers: Callable[[], list[float]]) -> float | None:
    """Return the largest number; None if there is none, or they cannot be computed."""
    try:
        return max(numbers(), default=None)
    except (AccountantError, ConfigurationError):
        return None


def _run(lease: Lease, dataset: str) -> RunSummary:
    charged = lease.charged(dataset, adaptive=True)
    (planned,) = (use.mechanism for use in lease.uses if use.dataset == dataset)
    mechanism = charged[0] if charged else None
    return RunSummary(
        run_id=lease.run_id,
        mechanism=None if mechanism is None else mechanism.to_json(),
        private=planned is not None,
        steps=lease.steps,
        intended=lease.intended,
        settled=lease.is_settled,
    )
