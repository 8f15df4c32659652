"""How many processes a launcher started, by its environment. No torch in here."""

import os

from dpft.errors import ConfigurationError

__all__ = ["processes_asked_for", "refuse_several_processes"]

_WORLD_SIZE = "WORLD_SIZE"


def processes_asked_for() -> int:
    """Return how many processes a launcher started; 1 without a launcher.

    Raises:
        ConfigurationError: If the environment holds no number >= 1.

    Privacy:
        Nothing, no data touched.
    """
    said = os.environ.get(_WORLD_SIZE) or "1"
    if not said.isdecimal() or int(said) < 1:
        raise ConfigurationError(
            f"Expected {_WORLD_SIZE}={said} to be a number >= 1. It says how many processes train "
            "together. Unset it, or start the processes by a launcher."
        )
    return int(said)


def refuse_several_processes(what: str) -> None:
    """Raise under a launcher of several processes.

    Args:
        what: What one process alone can do, for the message.

    Raises:
        ConfigurationError: If there are several.

    Privacy:
        Nothing, no data touched. Each process would make a release of its own
        (`test_no_verb_trains_in_several_processes`).
    """
    count = processes_asked_for()
    if count > 1:
        raise ConfigurationError(
            f"Expected {_WORLD_SIZE}={count} to be 1 with {what}. Each process would make a "
            "release of its own. Start it without a launcher; several processes train together by "
            "dpft.fit in a script."
        )
