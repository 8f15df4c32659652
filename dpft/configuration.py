"""How configuration values are declared: frozen, keyword-only, validated by pydantic.

Every concept that a user configures is a dataclass made by `validated`. The same classes serve the
Python interface and, registered as structured configs, the command line. No torch in here.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import pydantic
import pydantic.dataclasses

from dpft.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["validated"]

_Declared = TypeVar("_Declared", bound=type)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def validated(declared: _Declared) -> _Declared:
    """Turn a class of annotated fields into a frozen, validated, keyword-only dataclass.

    Args:
        declared: The class; ranges are given by `typing.Annotated` with pydantic constraints.

    Returns:
        The dataclass. Its constructor raises `ConfigurationError` naming every bad field at once.

    Privacy:
        Nothing, no data touched.
    """
    config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
    made = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=config)(declared)
    _report_as_configuration_error(made)
    return made  # type: ignore[return-value]  # pydantic's type is the dataclass of the same class


def _report_as_configuration_error(made: type) -> None:
    construct: Callable[..., None] = made.__init__  # type: ignore[misc]  # wrapped, not overridden

    def __init__(self: object, **fields: Any) -> None:  # noqa: N807 - any field, dataclass name
        try:
            construct(self, **fields)
        except pydantic.ValidationError as error:
            raise ConfigurationError(_messages(error.errors())) from None

    made.__init__ = __init__  # type: ignore[misc]  # see above


def _messages(errors: Sequence["ErrorDetails"]) -> list[str]:
    return [_message(error) for error in errors]


def _message(error: "ErrorDetails") -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"Expected {field} to be given. It has no default. Set {field}."
    if error["type"] == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    return f"Expected {field}={error['input']!r} to be valid: {error['msg']}. Change {field}."
