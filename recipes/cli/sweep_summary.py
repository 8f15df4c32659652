"""What all runs of a sweep cost together. No torch in here."""

import math
from collections.abc import Sequence

from dpft.accounting import Certificate
from dpft.errors import ConfigurationError
from dpft.rendering import rounded_up

__all__ = ["sweep_summary"]

_ADVICE = (
    "           That is what they tell whoever sees all of them, or one that was chosen by its "
    "results: dpft tune chooses for less."
)


def sweep_summary(certificates: Sequence[Certificate]) -> str:
    """Return what the runs of a sweep cost together.

    Args:
        certificates: Of the runs that finished, at least one.

    Returns:
        Two lines, or one for a single run. Epsilon is computed from the mechanisms of all runs,
        at the smallest delta that any of them was planned with; it is infinite if one of them has
        no guarantee.

    Privacy:
        Public numbers only. The sum holds for runs that were fixed beforehand, as those of a sweep
        are; data sets of different names are taken to share records
        (`test_a_sweep_costs_more_than_its_runs`).
    """
    together = certificates[0].compose(*certificates[1:])
    names = ", ".join(sorted({use.dataset_id for run in together.runs for use in run.touched}))
    count = len(together.runs)
    releases = f"{count} release{'s' * (count != 1)}"
    line = f"sweep      {releases} on {names} together: {_guarantee(together)}"
    return "\n".join([line, _ADVICE] if len(certificates) > 1 else [line])


def _guarantee(together: Certificate) -> str:
    delta = min(run.delta for run in together.runs)
    try:
        spent = together.epsilon(delta)
    except ConfigurationError as error:  # such as runs for different neighbouring relations
        return f"no common guarantee. {error}"
    if math.isinf(spent):
        return "NOT PRIVATE"
    accountant = together.accountant
    said = f"epsilon {rounded_up(spent)} at delta {delta:.3g}"
    return f"{said}, for this fixed set of runs, by {accountant}"
