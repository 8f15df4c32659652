"""Coefficients of a linear form: exact rational numbers, so that what cancels cancels."""

import math
from fractions import Fraction

from dpft.errors import ConfigurationError

__all__ = ["exact"]


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
    if not is_number or not math.isfinite(number):  # type: ignore[arg-type]  # is a number
        raise ConfigurationError(
            f"Expected coefficient={number!r} to be a finite number. A vector is scaled by numbers "
            "alone. Write a number such as 0.5."
        )
    return number if isinstance(number, Fraction) else Fraction(repr(number))
