"""From options to peft's configuration: what is given wins, a typo is refused.

Imports no torch.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["fill", "given"]

_Config = TypeVar("_Config", bound="PeftConfig")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that are None, which means "derived".

    Privacy:
        Nothing, no data touched.
    """
    return {name: value for name, value in options.items() if value is not None}


def fill(made: type[_Config], filled: Mapping[str, Any], options: Mapping[str, Any]) -> _Config:
    """Make a configuration of peft of what is filled in and what is given.

    Args:
        made: Class of the configuration.
        filled: Fields that the method fills in.
        options: Fields that were given; they win, unless None.

    Returns:
        The configuration.

    Raises:
        ConfigurationError: If a field is unknown, or peft refuses a value.

    Privacy:
        Nothing, no data touched.
    """
    known = [field.name for field in dataclasses.fields(made) if field.init]
    problems = [_unknown(name, known) for name in options if name not in known]
    if problems:
        raise ConfigurationError(problems)
    try:
        return made(**{**filled, **given(options)})
    except ConfigurationError:  # ours: it says already what is wrong
        raise
    except ValueError as error:
        raise ConfigurationError(
            f"Expected the adapter's options to fit together. peft says: {error} Change them."
        ) from error


def _unknown(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Choose from {', '.join(sorted(known))}."
    return f"Expected {name} to be an option of the adapter. Unknown ones are never ignored. {hint}"
