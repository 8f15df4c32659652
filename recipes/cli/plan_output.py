"""A plan as text or as JSON. No torch in here."""

import dataclasses
import json
import shlex
from collections.abc import Sequence

from dpft.recipes.planning.candidates import Candidate, gain
from dpft.recipes.planning.plan import Plan

__all__ = ["as_json", "as_text"]

_HEADINGS = ("batch", "epochs", "steps", "noise", "noise/batch", "hours", "less noise")


def as_text(plan: Plan) -> str:
    """Return the plan, its alternatives, what it assumed and its command.

    Args:
        plan: Any.

    Returns:
        Lines of text; the chosen candidate is marked.

    Privacy:
        Nothing, no data touched.
    """
    rows = [_cells(plan.found, position) for position in range(len(plan.found))]
    marks = ["*" if candidate is plan.choice else " " for candidate in plan.found]
    lines = [
        *_chosen(plan),
        "",
        "Candidates at this epsilon, the larger batch first; * is the plan. Each has half the work",
        'of the one above; "less noise": by how much it lowers the noise of the one below.',
        *_table(["", *_HEADINGS], [[mark, *row] for mark, row in zip(marks, rows, strict=True)]),
        "",
        "Assumed:",
        *(f"- {sentence}" for sentence in plan.assumptions),
        "",
        f"Run{_to_fill_in(plan)}:",
        f"  {shlex.join(['dpft', 'train', *plan.overrides])}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def as_json(plan: Plan) -> str:
    """Return the plan as one JSON object.

    Args:
        plan: Any.

    Returns:
        Indented JSON: `plan`, `candidates`, `assumptions`, `command` and `placeholders`.

    Privacy:
        Nothing, no data touched.
    """
    fields = {
        "plan": {
            **_fields(plan.choice),
            "num_records": plan.demand.num_records,
            "epsilon": plan.demand.epsilon,
            "delta": plan.demand.chosen_delta,
            "learning_rate": plan.learning_rate,
            "physical_batch": plan.physical_batch,
        },
        "candidates": [_fields(candidate) for candidate in plan.found],
        "assumptions": list(plan.assumptions),
        "command": ["dpft", "train", *plan.overrides],
        "placeholders": list(plan.placeholders),
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def _fields(candidate: Candidate) -> dict[str, object]:
    return {**dataclasses.asdict(candidate), "noise_to_batch": candidate.noise_to_batch}


def _chosen(plan: Plan) -> list[str]:
    choice, physical = plan.choice, plan.physical_batch
    fields = {
        "epsilon, delta": f"{plan.demand.epsilon:g}, {plan.demand.chosen_delta:g}",
        "expected_batch_size": f"{choice.expected_batch_size}",
        "steps": f"{choice.steps}, {choice.epochs:.3g} epochs",
        "noise_multiplier": f"{choice.noise_multiplier:.4f}",
        "noise to batch": f"{choice.noise_to_batch:.3g}",
        "learning_rate": f"{plan.learning_rate:g}",
        "hours": None if choice.hours is None else f"{choice.hours:.3g}",
        "physical batch": None if physical is None else f"{physical} of the longest records",
    }
    width = max(map(len, fields))
    return [f"{name:<{width}}  {value}" for name, value in fields.items() if value is not None]


def _cells(found: Sequence[Candidate], position: int) -> list[str]:
    candidate = found[position]
    last = position == len(found) - 1
    return [
        f"{candidate.expected_batch_size}",
        f"{candidate.epochs:.3g}",
        f"{candidate.steps}",
        f"{candidate.noise_multiplier:.4f}",
        f"{candidate.noise_to_batch:.3g}",
        "" if candidate.hours is None else f"{candidate.hours:.3g}",
        "" if last else f"{gain(found, position):.0%}",
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in (headings, *rows)
    ]


def _to_fill_in(plan: Plan) -> str:
    return f", with your own {' and '.join(plan.placeholders)}" if plan.placeholders else ""
