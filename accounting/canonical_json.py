"""JSON in one form: equal values give equal text, and what is not understood is refused.

Digests are taken over this form. Nothing here knows what the fields mean.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from dpft.accounting.errors import ConfigurationError

__all__ = ["canonical", "digest_of", "exactly", "is_digest", "misfit", "parsed", "text_problems"]

_DIGEST_LENGTH = 64


def canonical(value: object) -> str:
    """Write a JSON value: keys sorted, no spaces or line breaks, ASCII, no infinities.

    Args:
        value: Mappings with text as keys, lists, text, numbers, booleans, None.

    Returns:
        One line without its end.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> canonical({"b": 1.0, "a": [None, True]})
        '{"a":[null,true],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, as 64 hexadecimal digits.

    Args:
        text: Public text. A digest of records would be a membership oracle.

    Privacy:
        Nothing, no data touched.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def is_digest(value: object) -> bool:
    """Return whether a value is 64 lower-case hexadecimal digits.

    Args:
        value: Anything.

    Privacy:
        Nothing, no data touched.
    """
    digits = "0123456789abcdef"
    return isinstance(value, str) and len(value) == _DIGEST_LENGTH and set(value) <= set(digits)


def parsed(what: str, text: str) -> Any:
    """Read JSON in any layout, without repeated keys, NaN or infinities.

    Args:
        what: Name of the text, for messages.
        text: The JSON.

    Returns:
        The value.

    Raises:
        ConfigurationError: If the text is no such JSON.

    Privacy:
        Nothing, no data touched.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_constant=_refused,
            parse_float=_finite,
        )
    except ConfigurationError:  # is a ValueError as well
        raise
    except ValueError as error:  # no JSON, or an integer of thousands of digits
        raise ConfigurationError(
            f"Expected {what} to be JSON ({error}). A damaged {what} proves nothing. Take the "
            "file from the original run."
        ) from error
    except RecursionError as error:
        raise ConfigurationError(misfit(what, "nested text", "of finite depth")) from error


def exactly(what: str, fields: object, names: Iterable[str]) -> dict[str, Any]:
    """Return fields if they are the known ones, all of them and no others.

    Args:
        what: Name of the mapping, for messages.
        fields: What was read.
        names: The known fields.

    Returns:
        A copy.

    Raises:
        ConfigurationError: If it is no mapping, or a field is unknown or missing.

    Privacy:
        Nothing, no data touched.
    """
    known = set(names)
    if isinstance(fields, Mapping) and set(fields) == known:
        return dict(fields)
    given = sorted(map(str, fields)) if isinstance(fields, Mapping) else fields
    raise ConfigurationError(
        f"Expected {what}={given!r} to have exactly the fields {sorted(known)}. A field that is "
        "not understood may change the guarantee. Read it with the version that wrote it."
    )


def misfit(field: str, value: object, rule: str) -> str:
    """Return the message of a field that breaks a rule.

    Args:
        field: Its name.
        value: What was given.
        rule: What it has to be.

    Privacy:
        Nothing, no data touched.
    """
    return (
        f"Expected {field}={value!r} to be {rule}. A certificate states one algorithm, the one "
        "that ran. Write it from the plan of the run."
    )


def text_problems(field: str, value: object) -> list[str]:
    """Check a text that is not empty.

    Args:
        field: Its name.
        value: What was given.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    return [] if isinstance(value, str) and value else [misfit(field, value, "a non-empty string")]


def _refused(constant: str) -> NoReturn:
    raise ConfigurationError(misfit("number", constant, "finite"))


def _finite(digits: str) -> float:
    """Read a number; 1e400 is infinite to Python, though it is no constant of JSON."""
    value = float(digits)
    return value if math.isfinite(value) else _refused(digits)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ConfigurationError(
            misfit("fields", [name for name, _ in pairs], "without repetition")
        )
    return fields
