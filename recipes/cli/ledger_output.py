"""What the operator sees of a ledger. No torch in here."""

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from dpft.accounting.ledger import DatasetSummary
from dpft.booking import Booking
from dpft.recipes.cli.console import cell, plain
from dpft.rendering import rounded_up

__all__ = ["booked", "print_dataset", "print_datasets", "print_json", "print_open_runs"]


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
        "data set", "budget", "spent", "used up", "delta", "plans", "fixed set", "shares with"
    )
    for each in summaries:
        table.add_row(
            cell(each.dataset),
            "none" if each.budget_epsilon is None else f"{each.budget_epsilon:g}",
            _number(each.spent_epsilon) if each.plans else "",
            _used(each),
            f"{each.delta:g}",
            each.plans or "",
            _number(each.planned_epsilon),
            cell(", ".join(each.shares_with)),
        )
    console = Console()
    console.print(table)
    console.print(
        "used up: adds up over runs under adaptive plans, where epsilon does not. fixed set: "
        "epsilon by the tightest accountant, for this fixed set of runs.",
        style="dim",
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
            cell(run.run_id),
            str(run.steps),
            str(run.intended),
            "settled" if run.settled else "open",
            cell(charged) if run.private else "NOT PRIVATE",
        )
    Console().print(table)


def print_open_runs(summaries: Sequence[DatasetSummary], ledger: Path) -> None:
    """Print what is charged in full until somebody closes it, and how to.

    Args:
        summaries: The data sets.
        ledger: File of the ledger.

    Privacy:
        Public numbers and names.
    """
    seen = {
        run.run_id: (run, each.dataset)
        for each in summaries
        for run in each.runs
        if not run.settled
    }
    for run, dataset in seen.values():
        command = shlex.join(["dpft", "ledger", "settle", run.run_id, "--ledger", str(ledger)])
        said = (
            f"open: run {run.run_id} on {dataset}, {run.intended} of {run.steps} steps begun, "
            f"charged in full. If no process works on it and it will not be resumed:\n  {command}"
        )
        print(plain(said))


def _fields(mechanism: dict[str, object]) -> str:
    return ", ".join(
        f"{name}={value}" for name, value in mechanism.items() if not isinstance(value, dict | list)
    )


def _number(value: float | None) -> str:
    if value is None:
        return "cannot be added up"
    return "infinite" if math.isinf(value) else rounded_up(value)


def _used(summary: DatasetSummary) -> str:
    if summary.spent_share is None:
        return ""
    if math.isinf(summary.spent_share):
        return "all"
    return f"{math.ceil(summary.spent_share * 1000) / 10:g} %"
