"""Reads `a + b - 0.5*c` as a linear form over names: parsed as Python, and never evaluated.

Names, quoted paths, numbers, + - * /, parentheses, `sum(a, b)` and `analogy(a, b, c)`, which is
c + (b - a). Whatever else the text holds is refused. No torch in here.
"""

import ast
import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from dpft.errors import ConfigurationError

__all__ = ["linear_form"]

_LONGEST = 4000
_Form = Mapping[str, Fraction]
_Value = Fraction | _Form
_SHOWN = 40


def linear_form(text: str) -> dict[str, Fraction]:
    """Return the coefficient of each name in an expression.

    Args:
        text: The expression, of at most 4,000 characters.

    Returns:
        {name or quoted path: coefficient}, in the order of the text; what cancelled has 0. A
        quoted path that could be a name begins with `./`.

    Raises:
        ConfigurationError: If the text is no linear form.

    Privacy:
        Nothing, no data touched. No part of the text is ever run
        (`test_anything_but_arithmetic_is_refused`).

    Example:
        >>> linear_form("a + b - 0.5*c")
        {'a': Fraction(1, 1), 'b': Fraction(1, 1), 'c': Fraction(-1, 2)}
    """
    if len(text) > _LONGEST:
        raise _refused(text[:_SHOWN], f"shorter than {_LONGEST} characters", "Use a config file.")
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        what = "an expression such as 'a + b - 0.5*c'"
        raise _refused(text, what, "Names of adapters are given by --with NAME=DIR.") from error
    if isinstance(value, Fraction):
        raise _refused(text, "a sum of adapters, not a number", "Name at least one adapter.")
    if not all(_is_finite(number) for number in value.values()):
        raise _refused(text, "of finite coefficients", "Write smaller numbers.")
    return dict(value)


def _value(node: ast.expr) -> _Value:
    match node:
        case ast.Name(id=name):
            return {name: Fraction(1)}
        case ast.Constant(value=str(path)) if path:
            # 'a' in quotes is the folder, whatever --with says of the name a
            return {f"./{path}" if path.isidentifier() else path: Fraction(1)}
        case ast.Constant(value=int(number) | float(number)) if not isinstance(number, bool):
            return _number(node, number)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            return _scaled(_value(operand), Fraction(-1 if isinstance(sign, ast.USub) else 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=[*_], keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](_arguments(node))
    raise _unknown(node)


def _number(node: ast.expr, number: float) -> Fraction:
    if isinstance(number, float) and not math.isfinite(number):
        raise _unknown(node)
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _arguments(node: ast.Call) -> list[_Value]:
    inside = node.args
    if len(inside) == 1 and isinstance(inside[0], ast.List | ast.Tuple):  # sum([a, b])
        inside = inside[0].elts
    return [_value(each) for each in inside]


def _sum(values: list[_Value]) -> _Value:
    if not values:
        raise _refused("sum()", "of at least one adapter", "Name one.")
    total = values[0]
    for value in values[1:]:
        total = _added(total, value)
    return total


def _analogy(values: list[_Value]) -> _Value:
    if len(values) != 3 or any(isinstance(value, Fraction) for value in values):
        raise _refused("analogy(...)", "of three adapters", "analogy(a, b, c) is c + (b - a).")
    one, other, third = values
    return _added(third, _subtracted(other, one))


def _added(one: _Value, other: _Value) -> _Value:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one + other
    if isinstance(one, Fraction) or isinstance(other, Fraction):
        raise _refused("a number + an adapter", "a sum of one kind", "Multiply, or leave it out.")
    names = [*one, *(name for name in other if name not in one)]
    return {name: one.get(name, Fraction(0)) + other.get(name, Fraction(0)) for name in names}


def _subtracted(one: _Value, other: _Value) -> _Value:
    return _added(one, _scaled(other, Fraction(-1)))


def _product(one: _Value, other: _Value) -> _Value:
    if isinstance(one, Fraction):
        return _scaled(other, one)
    if isinstance(other, Fraction):
        return _scaled(one, other)
    raise _refused("adapter * adapter", "a number times an adapter", "Only numbers scale.")


def _quotient(one: _Value, other: _Value) -> _Value:
    if not isinstance(other, Fraction) or other == 0:
        raise _refused("a quotient", "an adapter divided by a number but 0", "Correct it.")
    return _scaled(one, 1 / other)


def _scaled(value: _Value, factor: Fraction) -> _Value:
    if isinstance(value, Fraction):
        return value * factor
    return {name: number * factor for name, number in value.items()}


_OPERATIONS: Mapping[type[ast.operator], Callable[[_Value, _Value], _Value]] = {
    ast.Add: _added,
    ast.Sub: _subtracted,
    ast.Mult: _product,
    ast.Div: _quotient,
}
_FUNCTIONS: Mapping[str, Callable[[list[_Value]], _Value]] = {"analogy": _analogy, "sum": _sum}


def _is_finite(number: Fraction) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def _unknown(node: ast.expr) -> ConfigurationError:
    rule = "a name, a number, a quoted path, + - * /, sum(...) or analogy(a, b, c)"
    return _refused(ast.unparse(node)[:_SHOWN], rule, "Write out what is meant.")


def _refused(found: str, rule: str, hint: str) -> ConfigurationError:
    return ConfigurationError(
        f"Expected expression={found} to be {rule}. An expression is a linear form over adapters, "
        f"and nothing in it is run. {hint}"
    )
