"""What an edited artefact costs, by the certificates of the vectors that are in it."""

import math
from collections.abc import Sequence
from typing import Any

from dpft.taskvectors import TaskVector

__all__ = ["charged_for"]

_DELTA = 1e-5


def charged_for(vectors: Sequence[TaskVector]) -> dict[str, Any]:
    """Return what something made of vectors owes, and what their runs cost one by one.

    Args:
        vectors: At least one, none of them empty.

    Returns:
        `epsilon` of the composed certificate, in which runs of unknown overlap add up; `largest`,
        that of the costliest run alone, which is what the edit would cost if a public rule kept the
        data sets apart; `binding`, the number of runs in the clique that binds. Epsilons are None
        where infinite.

    Privacy:
        Nothing, no data touched: public numbers. Signs and coefficients change nothing
        (`test_negation_costs_what_the_vector_costs`).
    """
    leaves = {leaf.id: leaf for vector in vectors for leaf in vector.leaves}.values()
    first, *others = [leaf.certificate for leaf in leaves]
    whole = first.compose(*others)
    spent, clique = whole.binding(_DELTA)
    each = [leaf.certificate.epsilon(_DELTA) for leaf in leaves]
    return {
        "epsilon": _finite(spent),
        "delta": _DELTA,
        "largest": _finite(max(each)),
        "binding": len(clique),
        "runs": sorted(run.run_id for run in whole.runs),
    }


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
