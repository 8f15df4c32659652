"""Fills the text templates in `dpft/templates`; a value that is not given is an error."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["inline", "render"]

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
