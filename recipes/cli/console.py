"""Text for a terminal: names that strangers gave move no cursor and change no colour."""

__all__ = ["cell", "plain"]


def plain(text: str) -> str:
    r"""Return text whose control characters are written out by their numbers; lines stay lines.

    Args:
        text: Any.

    Privacy:
        Nothing, no data touched (`test_no_name_commands_the_terminal`).

    Example:
        >>> plain("a\x1b[2Jb\u202ec")
        'a[U+001B][2Jb[U+202E]c'
    """
    return "".join(
        sign if sign == "\n" or sign.isprintable() else f"[U+{ord(sign):04X}]" for sign in text
    )


def cell(text: str) -> str:
    """Return text for a table of rich: nothing in it is taken for a style.

    Args:
        text: Any.

    Privacy:
        Nothing, no data touched (`test_no_name_commands_the_terminal`).
    """
    from rich.markup import escape

    return escape(plain(text))
