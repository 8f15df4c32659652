"""An expression is a linear form, and nothing in it is run."""

from fractions import Fraction

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.merging.formula import linear_form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a", {"a": "1"}),
        ("a + b - 0.5*c", {"a": "1", "b": "1", "c": "-1/2"}),
        ("-(a - 2*(b + c))/4", {"a": "-1/4", "b": "1/2", "c": "1/2"}),
        ("analogy(a, b, c)", {"a": "-1", "b": "1", "c": "1"}),
        ("sum([a, b, -c])", {"a": "1", "b": "1", "c": "-1"}),
        ("sum(a, 2*a)", {"a": "3"}),
        ("(a + b) - b", {"a": "1", "b": "0"}),
        ("'runs/a b' + 0.1*x + 0.2*x - 0.3*x", {"runs/a b": "1", "x": "0"}),
        ("1/3 * a", {"a": "1/3"}),
        ("+a * (2 - 1)", {"a": "1"}),
        ("1e-3*a", {"a": "1/1000"}),
        ("a - 'a'", {"a": "1", "./a": "-1"}),
    ],
)
def test_an_expression_is_its_coefficients(text: str, form: dict[str, str]) -> None:
    assert linear_form(text) == {name: Fraction(number) for name, number in form.items()}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.b",
        "a[0]",
        "a ** 2",
        "a if b else c",
        "[a for a in b]",
        "lambda: a",
        "f'{a}'",
        "a == b",
        "(a := b)",
        "eval(a)",
        "sum(a, key=b)",
        "sum(*a)",
        "True * a",
        "1j * a",
        "None",
        "b'a'",
        "a @ b",
        "not a",
        "~a",
        "a or b",
        "a; b",
        "a + '\udcff'",
        "a + \0",
    ],
)
def test_anything_but_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expression"):
        linear_form(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "2",
        "a + 1",
        "a * b",
        "a / b",
        "a / 0",
        "1e999 * a",
        "sum()",
        "analogy(a, b)",
        "analogy(a, b, 3)",
        "''",
        "1" * 400 + " * a",
        "-" * 3000 + "a",
        "a + " * 3000 + "a",
        "(" * 300 + "a" + ")" * 300,
    ],
)
def test_what_is_no_linear_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="Expected expression="):
        linear_form(text)
