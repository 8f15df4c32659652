"""The trackers of a run of the command line, and what they are told beyond the plan."""

from pathlib import Path

from dpft.recipes.preparation import Prepared
from dpft.tracking import Tracking
from dpft.tracking.content import Setting, public_fields

__all__ = ["trackers_of"]


def trackers_of(prepared: Prepared) -> Tracking:
    """Return the trackers that a run asked for, not started.

    Args:
        prepared: The prepared run.

    Returns:
        A context; without trackers it does nothing.

    Raises:
        ConfigurationError: If the package of one is not installed.

    Privacy:
        Settings are public; texts of the user, such as paths and templates, are left out, and of
        the base model the last part of its name is sent (`tests/recipes/test_train_trackers.py`).
    """
    settings = prepared.settings
    told: dict[str, Setting] = {
        "task": prepared.task.name,
        "model": Path(prepared.base_model).name,
        "run.seed": settings.run.seed,
        **public_fields("architecture", settings.architecture),
        **public_fields("adapter", settings.adapter),
    }
    return Tracking(settings.run.trackers, told)
