"""When a reservation is refused, and what the refusal says would fit."""

import dataclasses
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from dpft.accounting.errors import AccountantError, BudgetError, ConfigurationError
from dpft.accounting.grid import DEFAULT_GRID, Grid
from dpft.accounting.ledger.budget import Budget, Plans, planned_epsilon
from dpft.accounting.ledger.lease import Reservation
from dpft.accounting.ledger.state import State
from dpft.accounting.mechanisms import Mechanism, first_steps

__all__ = ["refuse_late_plans", "refuse_over_budget", "refuse_shared_within"]

_QUICK = Grid(value_discretization_interval=1e-3)  # from above, for what is only suggested
_DOUBLINGS = 12
_HALVINGS = 12
_Change = Callable[[Mechanism], Mechanism | None]


@dataclasses.dataclass(frozen=True)
class _Constraint:
    """One budget, against what one record may have taken part in.

    Args:
        dataset: Data set of the budget.
        budget: The budget.
        others: What other runs are charged.
        own: What the new run is charged.
        clique: Data sets that one record may lie in together.
        begun: Whether there was an output on one of them.
    """

    dataset: str
    budget: Budget
    others: Sequence[Mechanism | None]
    own: Sequence[Mechanism | None]
    clique: Sequence[str]
    begun: bool

    def spent(self, change: _Change | None = None, *, grid: Grid = DEFAULT_GRID) -> float:
        """Return the epsilon with the new run, changed if asked for."""
        changed = [None if m is None else change(m) for m in self.own] if change else self.own
        kept = [new for new, old in zip(changed, self.own, strict=True) if old is None or new]
        return self.budget.spent([*self.others, *kept], grid=grid)

    def before(self) -> str:
        """Say what is spent without the new run."""
        if self.budget.plans is Plans.ADAPTIVE:
            share = self.budget.share(self.others)
            used = math.ceil(share * 1000) / 10 if share < math.inf else share
            return f"Used up so far: {used:g} % of it, left: {max(0.0, 100 - used):.4g} %."
        spent = self.budget.spent(self.others)
        return f"Spent so far: {spent:.4g}, left: {max(0.0, self.budget.epsilon - spent):.4g}."


def refuse_shared_within(state: State, reservation: Reservation, ledger: Path) -> None:
    """Raise if two data sets of one run may share a record.

    Args:
        state: The ledger with the reservation in it.
        reservation: What is to be reserved.
        ledger: File of the ledger, for the command that a message names.

    Raises:
        ConfigurationError: If they may.

    Privacy:
        Such a record would enter one noisy sum twice, which costs more than two sums
        (`test_data_sets_of_one_run_must_be_disjoint`).
    """
    names = [use.dataset for use in reservation.uses]
    for place, one in enumerate(names):
        for other in names[:place]:
            if state.overlap(one, other):
                command = _command(ledger, "disjoint", other, one)
                raise ConfigurationError(
                    f"Expected data sets {other} and {one} of one run to share no record. One in "
                    "both would enter a noisy sum twice. Remove what they share, or state a public "
                    f"rule: {command} --rule '...'."
                )


def refuse_late_plans(state: State, dataset: str, budget: Budget, ledger: Path) -> None:
    """Raise if plans are declared fixed after an output that they may follow.

    Args:
        state: The ledger.
        dataset: Name of the data set.
        budget: What it is to have.
        ledger: File of the ledger, for the message.

    Raises:
        ConfigurationError: If there was an output on it, or on what shares records with it.

    Privacy:
        Nothing, no data touched. Runs chosen by earlier outputs do not add up as a fixed set does
        (`test_plans_are_not_declared_fixed_after_an_output`). Of a data set that was never used
        nobody knows what it shares: its plans count as adaptive if that shows later.
    """
    if budget.plans is not Plans.FIXED or dataset in state.fixed_since:
        return
    near = state.neighbours(dataset) if dataset in state.keys else []
    begun = [name for name in near if name in state.begun]
    if begun:
        raise ConfigurationError(
            f"Expected plans=fixed of data set {dataset} in ledger={ledger} to be declared before "
            f"the first output, but {' and '.join(begun)} had one by entry "
            f"{min(state.begun[name] for name in begun)}. Plans that may follow outputs do not add "
            "up as a fixed set does. Keep plans=adaptive, or use a data set without outputs."
        )


def refuse_over_budget(state: State, reservation: Reservation, ledger: Path) -> None:
    """Raise if a reservation would exceed a budget.

    Args:
        state: The ledger with the reservation in it.
        reservation: What is to be reserved.
        ledger: File of the ledger, for the command that a message names.

    Raises:
        BudgetError: If it would, or if what is charged cannot be added up.

    Privacy:
        A record's data sets overlap pairwise: each budget holds for every such set of data sets
        (`tests/accounting/ledger/test_sharing.py`). Messages hold public numbers and names only.
    """
    constraints = list(_constraints(state, reservation))
    for constraint in constraints:
        try:
            spent = constraint.spent()
        except (AccountantError, ConfigurationError) as error:
            raise BudgetError(_cannot_add_up(constraint, error)) from error
        if not spent <= constraint.budget.epsilon:  # what is not a number fits no budget
            said = _refusal(constraint, spent, reservation)
            raise BudgetError(f"{said} {_advice(constraint, constraints, ledger)}")


def _constraints(state: State, reservation: Reservation) -> Iterator[_Constraint]:
    used = {use.dataset for use in reservation.uses}
    near = sorted({name for dataset in used for name in state.neighbours(dataset)})
    for dataset in near:
        for clique in state.cliques(dataset):
            budget = state.budget_among(dataset, clique)
            if budget is not None and used & set(clique):
                yield _constraint(state, dataset, budget, clique, reservation.run_id)


def _constraint(
    state: State, dataset: str, budget: Budget, clique: Sequence[str], run_id: str
) -> _Constraint:
    charged: dict[bool, list[Mechanism | None]] = {True: [], False: []}
    for lease, name in state.leases_on(clique):
        adaptive = budget.plans is Plans.ADAPTIVE
        charged[lease.run_id == run_id] += lease.charged(name, adaptive=adaptive)
    others, own = tuple(charged[False]), tuple(charged[True])
    begun = any(name in state.begun for name in clique)
    return _Constraint(dataset, budget, others, own, clique, begun)


def _refusal(constraint: _Constraint, spent: float, reservation: Reservation) -> str:
    budget, dataset = constraint.budget, constraint.dataset
    names = " and ".join(use.dataset for use in reservation.uses)
    shares = (
        ""
        if dataset in {use.dataset for use in reservation.uses}
        else f" {dataset} shares records with {names}, or was never compared with it."
    )
    return (
        f"Expected epsilon={spent:.4g} of data set {dataset}, this run on {names} included, <= "
        f"{budget.epsilon:g}, its budget at delta={budget.delta:g} with {budget.plans.value} "
        f"plans.{shares} {constraint.before()}"
    )


def _advice(constraint: _Constraint, constraints: Sequence[_Constraint], ledger: Path) -> str:
    """Say what would fit; every suggestion was computed to fit all budgets."""
    own = [mechanism for each in constraints for mechanism in each.own]
    if None in own:
        return "A run without privacy fits no budget. Set privacy.mode=private."
    found = [_noise_that_fits(constraints), _steps_that_fit(constraints)]
    advice = " or ".join(filter(None, found))
    said = f"What would fit: {advice}." if advice else "No other noise or length of it would fit."
    if _may_fit_as_fixed(constraint):
        command = _command(ledger, "budget", constraint.dataset)
        said += (
            " If all plans on it are written down by now, before the first output, its owner may "
            f"declare so, by {command} --plans fixed, and they add up tighter."
        )
    return said


def _may_fit_as_fixed(constraint: _Constraint) -> bool:
    if constraint.budget.plans is Plans.FIXED or constraint.begun or len(constraint.clique) > 1:
        return False
    budget = dataclasses.replace(constraint.budget, plans=Plans.FIXED)
    return _fits([dataclasses.replace(constraint, budget=budget)])


def _command(ledger: Path, *words: str) -> str:
    return shlex.join(["dpft", "ledger", *words, "--ledger", str(ledger)])


def _noise_that_fits(constraints: Sequence[_Constraint]) -> str | None:
    own = [m for each in constraints for m in each.own if m is not None]
    present = {getattr(mechanism, "noise_multiplier", None) for mechanism in own}
    (noise, *others) = present
    if noise is None or others:
        return None
    high = noise
    for _ in range(_DOUBLINGS):
        high *= 2
        if _fits(constraints, _with_noise(high)):
            break
    else:
        return None
    low = high / 2
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _fits(constraints, _with_noise(middle)) else (middle, high)
    fitting = high * 1.0005
    said = f"noise_multiplier={fitting:.4g} at this sample rate and length"
    return f"{said}{_by_itself(constraints[0], fitting)}"


def _by_itself(constraint: _Constraint, noise_multiplier: float) -> str:
    """Say what target a run of this noise has, for whoever sets privacy.epsilon."""
    changed = [_with_noise(noise_multiplier)(m) for m in constraint.own if m is not None]
    delta = constraint.budget.delta
    try:
        target = math.floor(100 * planned_epsilon(changed, delta)) / 100
    except (AccountantError, ConfigurationError):
        return ""
    return f", as of privacy.epsilon={target:g} at delta={delta:g}" if target > 0 else ""


def _with_noise(noise_multiplier: float) -> _Change:
    def change(mechanism: Mechanism) -> Mechanism:
        values = {"noise_multiplier": noise_multiplier}
        changed: Mechanism = dataclasses.replace(mechanism, **values)
        return changed

    return change


def _steps_that_fit(constraints: Sequence[_Constraint]) -> str | None:
    own = [m for each in constraints for m in each.own if m is not None]
    low, high = 0, max(getattr(mechanism, "steps", 1) for mechanism in own)
    while high - low > 1:
        middle = (low + high) // 2
        fits = _fits(constraints, partial(first_steps, steps=middle))
        low, high = (middle, high) if fits else (low, middle)
    return f"steps={low} at this noise" if low else None


def _fits(constraints: Sequence[_Constraint], change: _Change | None = None) -> bool:
    try:
        return all(each.spent(change, grid=_QUICK) <= each.budget.epsilon for each in constraints)
    except (AccountantError, ConfigurationError):
        return False


def _cannot_add_up(constraint: _Constraint, error: Exception) -> str:
    return (
        f"Expected what is charged to data set {constraint.dataset} to add up. {error} A budget "
        "that cannot be computed is not spent. Use another data set, or no budget."
    )
