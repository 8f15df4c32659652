import jinja2
import pytest

from dpft.rendering import inline, render


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("report.md.j2")


def test_a_name_cannot_break_a_table_or_add_a_line() -> None:
    assert inline("a|b\n# c") == r"a\|b \# c"


def test_a_name_cannot_become_markup() -> None:
    assert inline("<b>*x*[y](z)") == r"\<b\>\*x\*\[y\](z)"
