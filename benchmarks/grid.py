"""One training step over a grid of T and B: LoRA, every adapter, every weight, the tied head.

    python -m benchmarks.grid --no-memory --threads 1 --out grid.json
    python -m benchmarks.grid --no-memory --engines dpft --only "MiniLM prompt"

As `benchmarks.step`; T of 32, 128 and 512, B of 8 and 64. Small batches come first, and LoRA before
what else is trained. The table at the end holds ratios of processor time to the plain step.
"""

from collections.abc import Sequence

from benchmarks.cases import Case, Family, Method
from benchmarks.engines import ENGINES
from benchmarks.reporting import markdown
from benchmarks.step import Contest, Row, main

__all__ = ["GRID", "pivoted"]

_SHAPES = sorted(((b, t) for b in (8, 64) for t in (32, 128, 512)), key=lambda bt: bt[0] * bt[1])
_FIRST = (Method.LORA, Method.TIED_HEAD, Method.FULL)
_METHODS = (*_FIRST, *(method for method in Method if method not in _FIRST))


def pivoted(rows: Sequence[Row]) -> str:
    """Return one line for each thing trained and each engine, one column for each shape.

    Args:
        rows: Rows of all cells that there are.

    Returns:
        A table in Markdown; "-" where an engine cannot do the case, blank where it was not run.

    Privacy:
        Nothing, no data touched.
    """
    shapes = list(dict.fromkeys(row.case.partition(" B=")[2] for row in rows))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        trained, _, shape = row.case.partition(" B=")
        cells = lines.setdefault((trained, row.engine), {})
        cells[shape] = "-" if row.cpu is None else str(row.cpu)
    return markdown(
        ["trained", "engine", *(f"B={shape}" for shape in shapes)],
        [[*line, *(cells.get(shape, "") for shape in shapes)] for line, cells in lines.items()],
    )


GRID = Contest(
    "benchmarks.grid",
    tuple(
        Case(family, method, *shape)
        for method in _METHODS
        for family in Family
        for shape in _SHAPES
        if method is not Method.TIED_HEAD or family is Family.GPT2  # MiniLM has no words to name
    ),
    tuple(ENGINES),
    pivoted,
)
"""Every cell, in the order in which they are run."""

if __name__ == "__main__":
    main(contest=GRID)
