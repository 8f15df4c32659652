"""Which trackers there are, and whether their packages are installed. No torch in here."""

import difflib
import importlib.util
from collections.abc import Sequence
from enum import Enum

__all__ = ["TrackerName", "tracker_problems"]


class TrackerName(str, Enum):
    """Trackers that a run can report to, by the names of their packages."""

    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


def tracker_problems(names: Sequence[TrackerName | str]) -> list[str]:
    """Say what keeps trackers from starting that can be known before anything is loaded.

    Args:
        names: Names of trackers.

    Returns:
        One message for each name that is unknown, and for each whose package is not installed.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> tracker_problems(["tensorbord"])[0].partition(". ")[2]
        'Others would not be checked for what they send. Did you mean tensorboard?'
    """
    known = [name.value for name in TrackerName]
    asked = [name.value if isinstance(name, TrackerName) else name for name in names]
    unknown = [_unknown(name, known) for name in asked if name not in known]
    found = [name for name in asked if name in known]
    return unknown + [_missing(name) for name in found if importlib.util.find_spec(name) is None]


def _unknown(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else "Leave it out."
    return (
        f"Expected tracker={name} to be one of {', '.join(known)}. Others would not be checked for "
        f"what they send. {hint}"
    )


def _missing(name: str) -> str:
    return (
        f"Expected tracker={name} to have its package installed. A run that was to be tracked "
        'would not be. Run pip install "dpft[trackers]", or leave the tracker out.'
    )
