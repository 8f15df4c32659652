"""What the operator sees of a merge. No torch in here."""

import json
import math
from pathlib import Path

from dpft.recipes.merging.summary import Summary
from dpft.rendering import rounded_up

__all__ = ["print_summary"]

_NAME = 12  # characters of a run's random name that are shown
_KIB = 1024


def print_summary(summary: Summary, written: Path | None, *, as_json: bool) -> None:
    """Print a merge.

    Args:
        summary: What was merged, or would be.
        written: Where it lies; None after a dry run.
        as_json: Whether to print JSON instead of lines.

    Privacy:
        Public numbers and names.
    """
    if as_json:
        output = None if written is None else str(written)
        print(json.dumps(summary.to_json() | {"output": output}, indent=2, allow_nan=False))
        return
    if math.isinf(summary.epsilon):
        print("NOT PRIVATE")
    for title, value in _lines(summary).items():
        print(f"{title:<11}{value}")
    for place, error in summary.errors.items():
        print(f"  {error:9.3g}  {place}")
    for note in summary.notes:
        print(note)
    print(f"{'written':<11}{written}" if written is not None else "dry run    nothing was written")


def _lines(summary: Summary) -> dict[str, str]:
    terms = [f"{number} * {name}" for name, number in summary.expression.items()]
    settings = [f"{name} {value}" for name, value in summary.parameters.items()]
    ranks = "none" if summary.ranks is None else " to ".join(map(str, sorted({*summary.ranks})))
    lines = {
        "merge": " + ".join(terms),
        "method": ", ".join([summary.method, *settings]),
        "kind": f"{summary.family}, {summary.modules} places, rank {ranks}",
        "base": f"{summary.base or 'unnamed'} ({(summary.base_digest or 'no digest')[:_NAME]})",
        "guarantee": f"epsilon {rounded_up(summary.epsilon)} at delta {summary.delta:.3g}, "
        f"unit one {summary.unit}",
        "costs of": ", ".join(run[:_NAME] for run in summary.binding),
        "tensors": f"{summary.tensor_bytes / _KIB**2:.2f} MiB",
        "result": "the weighted sum, exactly" if summary.exact else "not the sum itself",
    }
    if summary.error is not None:
        lines["error"] = f"{summary.error:.3g} of all matrices together, by matrix:"
    return lines
