"""Rules for single fields: each returns what is wrong, so that all errors are raised together.

No field is repaired. A rule returns a list of messages, empty if the value obeys; `require` raises
them as one `ConfigurationError`. Anything may import this module; it imports the errors alone.
"""

import difflib
import math
from collections.abc import Iterable

from dpft.accounting.errors import ConfigurationError

__all__ = [
    "count_problems",
    "delta_problems",
    "effort_problems",
    "fraction_problems",
    "name_problems",
    "positive_problems",
    "rate_problems",
    "require",
    "scientific",
]


def scientific(value: float) -> str:
    """Write a number as ``1e-04``: up to five digits, never rounded to nothing.

    Args:
        value: Any finite number.

    Returns:
        The mantissa without trailing zeros, and the exponent.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> scientific(1 / 10_000), scientific(1 / 67_349)
        ('1e-04', '1.4848e-05')
    """
    mantissa, exponent = f"{value:.4e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def require(*problems: Iterable[str]) -> None:
    """Raise all problems together, if there are any.

    Args:
        problems: What the rules returned, in the order in which to report it.

    Raises:
        ConfigurationError: If any of the lists holds a message.

    Privacy:
        Nothing, no data touched.
    """
    messages = [message for found in problems for message in found]
    if messages:
        raise ConfigurationError(messages)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _within(value: object, low: float, high: float) -> bool:
    return _is_number(value) and isinstance(value, int | float) and low < value <= high


def positive_problems(field: str, value: object) -> list[str]:
    """Check a finite number > 0.

    Args:
        field: Name of the field, as the user writes it.
        value: What was given.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    if _within(value, 0.0, math.inf):
        return []
    message = (
        f"Expected {field}={value!r} to be a finite number > 0. Anything else describes no noise "
        f"and no guarantee. Set {field} to a positive number."
    )
    return [message]


def rate_problems(field: str, value: object) -> list[str]:
    """Check a probability in (0, 1].

    Args:
        field: Name of the field, as the user writes it.
        value: What was given.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    if _within(value, 0.0, 1.0):
        return []
    message = (
        f"Expected {field}={value!r} in (0, 1]. It is the probability with which one record enters "
        "one step. Set it to expected_batch_size / num_records."
    )
    return [message]


def fraction_problems(field: str, value: object) -> list[str]:
    """Check a number strictly between 0 and 1.

    Args:
        field: Name of the field, as the user writes it.
        value: What was given.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    if _within(value, 0.0, 1.0) and value != 1.0:
        return []
    message = (
        f"Expected {field}={value!r} in (0, 1). It is the probability with which the bound epsilon "
        f"may fail. Set {field} well below 1/num_records, such as 1e-05."
    )
    return [message]


def count_problems(field: str, value: object) -> list[str]:
    """Check an integer >= 1.

    Args:
        field: Name of the field, as the user writes it.
        value: What was given.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return []
    message = (
        f"Expected {field}={value!r} to be an integer >= 1. Counts are public numbers that are "
        f"fixed once, before training. Set {field} to a whole number."
    )
    return [message]


def effort_problems(field: str, value: object, most: int) -> list[str]:
    """Check that a number, if it is one, does not make the accountant work without end.

    Args:
        field: Name of the field, as the user writes it.
        value: What was given; whether it is a number at all, another rule says.
        most: Largest value that is computed.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    if not _is_number(value) or not isinstance(value, int | float) or value <= most:
        return []
    message = (
        f"Expected {field}={value!r} <= {most}. A bound beyond would take hours and gigabytes, and "
        f"promise nothing. Lower {field}."
    )
    return [message]


def delta_problems(delta: object, num_records: int | None = None) -> list[str]:
    """Check that delta lies in (0, 1), and below 1/num_records where that is known.

    Args:
        delta: What was given.
        num_records: Public number of records, or None if it is not known here. One that is no
            count is not judged here: `count_problems` names it.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        A mechanism that publishes one record in full, picked at random, is (0, 1/num_records)
        private; hence the rule (`test_delta_of_one_over_num_records_is_refused`).

    Example:
        >>> print(delta_problems(0.5, 10_000)[0])
        Expected delta=0.5 < 1/num_records=1e-04. A larger delta allows whole records to leak.
        Set delta to at most 1e-05.
    """
    problems = fraction_problems("delta", delta)
    if problems or num_records is None or not isinstance(delta, int | float):
        return problems
    if count_problems("num_records", num_records):
        return []
    limit = 1 / num_records  # not delta * num_records: 1/49 * 49 is below 1 in floating point
    if delta < limit:
        return []
    message = (
        f"Expected delta={delta!r} < 1/num_records={scientific(limit)}. A larger delta "
        f"allows whole records to leak. Set delta to at most {scientific(limit / 10)}."
    )
    return [message]


def name_problems(field: str, value: object, known: Iterable[str]) -> list[str]:
    """Check that a name is one of those known, and suggest the nearest.

    Args:
        field: Name of the field, as the user writes it.
        value: What was given.
        known: The names that exist.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    names = sorted(known)
    if isinstance(value, str) and value in names:
        return []
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    advice = f"Did you mean {near[0]}?" if near else "Choose one of them."
    message = (
        f"Expected {field}={value} to be one of {', '.join(names)}. A name that is not known is "
        f"refused, never guessed. {advice}"
    )
    return [message]
