"""JSON in one form: equal values give equal text, and what is not understood is refused.

Digests are taken over this form. Nothing here knows what the fields mean.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from dpft.accounting.errors import ConfigurationError

__all__ = [
    "LONGEST_JSON",
    "canonical",
    "digest_of",
    "exactly",
    "is_digest",
    "misfit",
    "parsed",
    "text_problems",
]

LONGEST_JSON = 8 << 20
"""Most characters that are read: some thousands of runs."""
_DEEPEST = 64
_LARGEST = 1 << 64  # seeds and counts lie below; beyond the range of floats nothing can be computed
_SHOWN = 300
_DIGEST_LENGTH = 64
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


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
        text: The JSON, of at most `LONGEST_JSON` characters.

    Returns:
        The value: at most 64 levels deep, whole numbers below 2**64, texts in Unicode.

    Raises:
        ConfigurationError: If the text is no such JSON.

    Privacy:
        Nothing, no data touched (`tests/fuzz/test_parsers.py`).
    """
    if len(text) > LONGEST_JSON:
        raise ConfigurationError(misfit(what, text[:20], f"of <= {LONGEST_JSON} characters"))
    try:
        value = json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_constant=_refused,
            parse_float=_finite,
            parse_int=_whole,
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
    _refuse_unfit(what, value)
    return value


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
        f"Expected {what}={_shown(given)} to have exactly the fields {sorted(known)}. A field that "
        "is not understood may change the guarantee. Read it with the version that wrote it."
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
        f"Expected {field}={_shown(value)} to be {rule}. A certificate states one algorithm, the "
        "one that ran. Write it from the plan of the run."
    )


def text_problems(field: str, value: object) -> list[str]:
    """Check a text that is not empty, and can be written.

    Args:
        field: Its name.
        value: What was given.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    if isinstance(value, str) and value and not _HALF_OF_A_PAIR.search(value):
        return []
    return [misfit(field, value, "a non-empty string")]


def _shown(value: object) -> str:
    """Return a value for a message, cut: a file of megabytes is no reason to print them."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse_unfit(what: str, value: object) -> None:
    """Refuse what is too deep to be walked by recursion, and text that cannot be written."""
    pending = [(value, 1)]
    while pending:
        each, depth = pending.pop()
        if isinstance(each, str) and _HALF_OF_A_PAIR.search(each):
            raise ConfigurationError(misfit(what, each, "text in Unicode"))
        if depth > _DEEPEST:
            raise ConfigurationError(misfit(what, "nested text", f"at most {_DEEPEST} deep"))
        if isinstance(each, dict):
            pending += [(part, depth + 1) for pair in each.items() for part in pair]
        elif isinstance(each, list):
            pending += [(part, depth + 1) for part in each]


def _whole(digits: str) -> int:
    """Read a whole number; one of thousands of digits would overflow whatever computes with it."""
    value = int(digits)
    return value if abs(value) < _LARGEST else _refused(digits[:_SHOWN])


def _refused(constant: str) -> NoReturn:
    raise ConfigurationError(misfit("number", constant, "finite, and not beyond 2**64"))


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
