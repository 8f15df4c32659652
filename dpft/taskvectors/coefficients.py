"""Coefficients of a linear form: exact rational numbers, so that what cancels cancels."""

import math
from fractions import Fraction

from dpft.errors import ConfigurationError

__all__ = ["exact", "rounded"]

_SHOWN = 40  # characters of what is refused


def exact(number: object) -> Fraction:
    """Return a number as the fraction that it is written as: 0.1 is one tenth.

    Args:
        number: An int, a finite float or a Fraction.

    Returns:
        The fraction. 0.1 + 0.2 - 0.3 is zero in fractions, and is not in floats.

    Raises:
        ConfigurationError: If it is none of these.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> exact(0.1) + exact(0.2) - exact(0.3)
        Fraction(0, 1)
    """
    is_number = isinstance(number, int | float | Fraction) and not isinstance(number, bool)
    if not is_number or not _is_finite(number):  # type: ignore[arg-type]  # is a number
        raise ConfigurationError(
            f"Expected coefficient={_shown(number)} to be a finite number. A vector is scaled by "
            "numbers alone. Write a number such as 0.5."
        )
    return number if isinstance(number, Fraction) else Fraction(repr(number))


def rounded(number: Fraction) -> float:
    """Return the nearest float of a coefficient.

    Args:
        number: Any fraction.

    Raises:
        ConfigurationError: If it is larger than every float.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> rounded(Fraction(1, 4))
        0.25
    """
    return float(exact(number))


def _is_finite(number: float | Fraction) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number or a fraction beyond every float
        return False


def _shown(number: object) -> str:
    is_large = isinstance(number, int | Fraction) and not isinstance(number, bool)
    return "a number above 1e308" if is_large else repr(number)[:_SHOWN]
