"""What the operator sees of a ledger. No torch in here."""

import json
import math
from collections.abc import Sequence

from dpft.accounting.ledger import DatasetSummary
from dpft.booking import Booking
from dpft.rendering import rounded_up

__all__ = ["booked", "print_dataset", "print_datasets", "print_json"]


def booked(booking: Booking) -> str:
    """Return where a run is charged, and against which budgets, in a few lines.

    Args:
        booking: The run in its ledger.

    Privacy:
        Public numbers and names.
    """
    lines = [f"ledger     {booking.path} (run {booking.run_id})"]
    for dataset, budget in booking.budgets.items():
        said = (
            f"none is set for {dataset}: the run is charged, and never refused"
            if budget is None
            else f"{dataset}: epsilon {budget.epsilon:g} at delta {budget.delta:g}, "
            f"{budget.plans.value} plans"
        )
        lines.append(f"budget     {said}")
    return "\n".join(lines)


def print_json(summaries: Sequence[DatasetSummary]) -> None:
    """Print data sets as JSON.

    Args:
        summaries: The data sets.

    Privacy:
        Public numbers and names.
    """
    print(json.dumps([summary.to_json() for summary in summaries], indent=2))


def print_datasets(summaries: Sequence[DatasetSummary]) -> None:
    """Print one line for each data set.

    Args:
        summaries: The data sets.

    Privacy:
        Public numbers and names.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "data set", "budget", "spent", "left", "delta", "plans", "fixed set", "shares with"
    )
    for each in summaries:
        table.add_row(
            each.dataset,
            "none" if each.budget_epsilon is None else f"{each.budget_epsilon:g}",
            _number(each.spent_epsilon) if each.plans else "",
            _left(each),
            f"{each.delta:g}",
            each.plans or "",
            _number(each.planned_epsilon),
            ", ".join(each.shares_with),
        )
    console = Console()
    console.print(table)
    console.print(
        "fixed set: epsilon by the tightest accountant, for this fixed set of runs.", style="dim"
    )


def print_dataset(summary: DatasetSummary) -> None:
    """Print one data set with its runs.

    Args:
        summary: The data set.

    Privacy:
        Public numbers and names.
    """
    from rich.console import Console
    from rich.table import Column, Table

    print_datasets([summary])
    # the whole name: dpft ledger settle asks for it
    table = Table(Column("run", no_wrap=True, min_width=32), "steps", "begun", "state", "charged")
    for run in summary.runs:
        charged = "nothing" if run.mechanism is None else _fields(run.mechanism)
        table.add_row(
            run.run_id,
            str(run.steps),
            str(run.intended),
            "settled" if run.settled else "open",
            charged if run.private else "NOT PRIVATE",
        )
    Console().print(table)


def _fields(mechanism: dict[str, object]) -> str:
    return ", ".join(
        f"{name}={value}" for name, value in mechanism.items() if not isinstance(value, dict | list)
    )


def _number(value: float | None) -> str:
    if value is None:
        return "cannot be added up"
    return "infinite" if math.isinf(value) else rounded_up(value)


def _left(summary: DatasetSummary) -> str:
    if summary.budget_epsilon is None or summary.spent_epsilon is None:
        return ""
    left = max(0.0, summary.budget_epsilon - summary.spent_epsilon)
    return f"{math.floor(left * 1000) / 1000:g}"
