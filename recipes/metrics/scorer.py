"""What a metric is: a table with one row of statistics per record, and a function of that table.

Whatever resamples records (`dpft.recipes.metrics.intervals`) works on the rows and therefore for
every metric alike. No torch, and nothing of `evaluate`, in here.
"""

import dataclasses
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Kind", "Rows", "Scorer", "together"]

Rows: TypeAlias = npt.NDArray[np.float64]


class Kind(str, Enum):
    """What predictions and references are.

    `texts`: a text against one or more; `labels`: a class index against another; `numbers`: a
    score against another; `losses`: a summed loss and the number of tokens it was summed over.
    """

    LABELS = "labels"
    LOSSES = "losses"
    NUMBERS = "numbers"
    TEXTS = "texts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """How one metric is computed.

    Args:
        figures: Keys of the result, at least one.
        kind: What predictions and references are.
        columns: Width of a row, >= 1.
        statistics: Maps predictions and references, both checked, to rows `[N, columns]`.
        score: Maps rows to one number per figure. It depends on the rows as a set, not on their
            order, and accepts rows that stand there several times.
        signature: Maps references to what must be printed beside the figures: options, versions.
        fewest: Records that it is defined for at least, >= 1.

    Privacy:
        Rows and figures depend on the records and carry no noise: they may be published for
        public records only, and `dpft.recipes.metrics.measurement.measure` refuses all others.
    """

    figures: tuple[str, ...]
    kind: Kind
    columns: int
    statistics: Callable[[Sequence[Any], Sequence[Any]], Rows]
    score: Callable[[Rows], dict[str, float]]
    signature: Callable[[Sequence[Any]], str]
    fewest: int = 1


def together(*parts: Scorer) -> Scorer:
    """Return the scorer of several metrics of the same records.

    Args:
        parts: Scorers of one kind, with different figures; at least one.

    Returns:
        A scorer of all their figures.

    Privacy:
        As `Scorer`.
    """
    figures = tuple(name for part in parts for name in part.figures)
    assert len(set(figures)) == len(figures), "two parts share a figure"
    assert len({part.kind for part in parts}) == 1, "parts want different records"
    edges = np.cumsum([part.columns for part in parts])[:-1]

    def statistics(predictions: Sequence[Any], references: Sequence[Any]) -> Rows:
        return np.hstack([part.statistics(predictions, references) for part in parts])

    def score(rows: Rows) -> dict[str, float]:
        pieces = zip(parts, np.split(rows, edges, axis=1), strict=True)
        return {name: value for part, own in pieces for name, value in part.score(own).items()}

    return Scorer(
        figures=figures,
        kind=parts[0].kind,
        columns=sum(part.columns for part in parts),
        statistics=statistics,
        score=score,
        signature=lambda references: " ; ".join(part.signature(references) for part in parts),
        fewest=max(part.fewest for part in parts),
    )
