"""Tables as one line of text, as the papers on table-to-text write them. No torch in here.

May be imported by tasks, by the embedded generator and by the recipe of the decoder.
"""

from collections.abc import Sequence

__all__ = ["linearise"]

_BETWEEN_CELLS = " : "
_BETWEEN_ROWS = " | "


def linearise(rows: Sequence[Sequence[str]]) -> str:
    """Write a table as one line: cells divided by " : ", rows by " | ".

    Args:
        rows: Slots (name, value) or triples (subject, relation, object), in order.

    Returns:
        The line.

    Privacy:
        Depends on the table alone; it is as raw as the table.

    References:
        Hu et al. 2022 (2106.09685), the released conversion of E2E, DART and WebNLG for GPT-2,
        after Li and Liang 2021 (2101.00190).

    Example:
        >>> linearise([("name", "Blue Spice"), ("area", "city centre")])
        'name : Blue Spice | area : city centre'
    """
    return _BETWEEN_ROWS.join(
        _BETWEEN_CELLS.join(" ".join(cell.split()) for cell in row) for row in rows
    )
