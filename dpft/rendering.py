"""Fills the text templates in `dpft/templates`; a value that is not given is an error."""

import math
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dpft.accounting.profile import AttackBound

__all__ = ["basis_in_words", "inline", "percent_rounded_up", "render", "rounded_up"]

_DIGITS = 4

_ESCAPED = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#"})


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: File name in `dpft/templates`.
        **values: What the template names.

    Returns:
        The text.

    Raises:
        jinja2.UndefinedError: If the template names a value that is not given.

    Privacy:
        Releases its values as they are.
    """
    environment = Environment(
        loader=PackageLoader("dpft"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown, not HTML: names are escaped by `inline`
    )
    environment.filters["inline"] = inline
    environment.filters["rounded_up"] = rounded_up
    return environment.get_template(template).render(**values)


def inline(text: object) -> str:
    r"""Return a name such that it cannot change the Markdown around it.

    Args:
        text: Any value; line breaks become spaces.

    Returns:
        One line, with Markdown's signs escaped.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> print(inline("a|b"))
        a\|b
    """
    return " ".join(str(text).split()).translate(_ESCAPED)


def percent_rounded_up(share: float) -> str:
    """Return a share in percent with two digits behind the point, never less than it is.

    Args:
        share: In [0, 1].

    Returns:
        Digits and a percent sign.

    Privacy:
        Nothing, no data touched. What an attacker can do is never understated by its print.

    Example:
        >>> percent_rounded_up(0.02711)
        '2.72%'
    """
    return f"{math.ceil(share * 10_000) / 100:.2f}%"


def basis_in_words(bound: AttackBound, delta: float) -> str:
    """Say what a bound on attacks was computed from.

    Args:
        bound: Any.
        delta: At which epsilon was taken.

    Returns:
        Words that continue a sentence.

    Privacy:
        Nothing, no data touched.
    """
    if bound.from_curve:
        return "by the whole trade-off curve of the mechanisms, rounded up"
    return f"by epsilon at delta = {delta:.3g} alone, as no curve is known"


def rounded_up(epsilon: float) -> str:
    """Return an epsilon to four significant digits, never less than it is.

    Args:
        epsilon: Any number >= 0, or infinity.

    Returns:
        Plain digits.

    Privacy:
        Nothing, no data touched. A guarantee is never overstated by its print.

    Example:
        >>> rounded_up(7.99812), rounded_up(8.0), rounded_up(0.31)
        ('7.999', '8', '0.31')
    """
    rounded = Context(prec=_DIGITS, rounding=ROUND_CEILING).create_decimal(Decimal(epsilon))
    return f"{rounded.normalize():f}"
