"""One table for all runs of a sweep, ending in what they cost together. No torch in here."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from dpft.accounting import Certificate
from dpft.recipes.cli.sweep_summary import sweep_summary
from dpft.rendering import rounded_up

__all__ = ["SweptRun", "sweep_table"]


@dataclasses.dataclass(frozen=True)
class SweptRun:
    """A run of a sweep that finished.

    Args:
        overrides: What was set for it on the command line.
        certificate: What it may claim.
        metrics: Its released metrics by name.

    Privacy:
        Public numbers and released metrics only.
    """

    overrides: Sequence[str]
    certificate: Certificate
    metrics: Mapping[str, float]


def sweep_table(runs: Sequence[SweptRun]) -> str:
    """Return a row for each run, then what all of them cost together.

    Args:
        runs: In the order in which they ran, at least one.

    Returns:
        Lines of text: what differs between the runs, the epsilon of each, its metrics; at the end
        `sweep_summary`.

    Privacy:
        Public numbers and released metrics only; the sum is that of `sweep_summary`
        (`test_the_table_of_a_sweep_ends_in_the_sum`).
    """
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    shared = set.intersection(*(set(run.overrides) for run in runs)) if len(runs) > 1 else set()
    rows = [
        [
            str(number),
            " ".join(text for text in run.overrides if text not in shared),
            _epsilon(run.certificate),
            *(f"{run.metrics[name]:.4f}" if name in run.metrics else "" for name in names),
        ]
        for number, run in enumerate(runs)
    ]
    lines = _aligned([["run", "settings", "epsilon", *names], *rows])
    return "\n".join([*lines, sweep_summary([run.certificate for run in runs])])


def _epsilon(certificate: Certificate) -> str:
    spent = certificate.epsilon(min(run.delta for run in certificate.runs))
    return "NOT PRIVATE" if math.isinf(spent) else rounded_up(spent)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
