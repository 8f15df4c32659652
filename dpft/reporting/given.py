"""Names that people gave, made harmless: nothing invisible, nothing that turns a line around."""

import unicodedata

from dpft.rendering import inline

__all__ = ["given", "in_markdown", "visible"]

_ISOLATE, _END = "\u2068", "\u2069"
_JOINERS = "\u200c\u200d"  # letters of several scripts need them
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}
_RIGHT_TO_LEFT = {"R", "AL", "AN"}


def visible(text: str) -> str:
    r"""Return text on one line, with invisible characters written out by their numbers.

    Args:
        text: Any.

    Returns:
        The same without control characters, overrides of the writing direction and the like: they
        could show a reader another number than the one that stands there. Isolates of `given`
        stay, as they end where they have to.

    Privacy:
        Nothing, no data touched (`test_no_name_can_turn_a_line_around`).

    Example:
        >>> visible("a\u202eb\nc")
        'a[U+202E]b c'
    """
    line = " ".join(text.split())
    return "".join(char if _is_shown(char) else f"[U+{ord(char):04X}]" for char in line)


def given(name: str) -> str:
    """Return a name that stands among other words: one from right to left moves none of them.

    Args:
        name: Any.

    Privacy:
        Nothing, no data touched (`test_a_name_from_right_to_left_stays_in_its_place`).
    """
    shown = visible(name.replace(_ISOLATE, "").replace(_END, ""))
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in shown):
        return f"{_ISOLATE}{shown}{_END}"
    return shown


def in_markdown(text: object) -> str:
    r"""Return text that stands in Markdown as it is, and in which no address becomes a link.

    Args:
        text: Any value.

    Privacy:
        Nothing, no data touched (`test_no_address_in_a_name_becomes_a_link`).

    Example:
        >>> print(in_markdown("a|b http://c"))
        a\|b http\://c
    """
    return inline(visible(str(text))).replace("://", "\\://").replace("www.", "www\\.")


def _is_shown(char: str) -> bool:
    return char in _JOINERS + _ISOLATE + _END or unicodedata.category(char) not in _HIDDEN
