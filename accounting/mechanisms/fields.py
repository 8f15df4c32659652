"""Checks and JSON that all mechanisms share, as functions."""

import dataclasses
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

from dpft.accounting.mechanisms.adjacency import Adjacency
from dpft.accounting.rules import name_problems, require

if TYPE_CHECKING:
    from dpft.accounting.mechanisms.protocol import Mechanism

__all__ = [
    "fields_as_json",
    "narrowed_adjacency_problems",
    "settle",
]


def settle(mechanism: Any, *problems: Iterable[str]) -> None:
    """Check a mechanism under construction, and store its numbers so that equal ones are alike.

    Args:
        mechanism: An instance of a frozen dataclass with a field `adjacency`.
        problems: What the rules found for the other fields.

    Raises:
        ConfigurationError: If there are problems, or the adjacency is unknown; all together.

    Privacy:
        Nothing, no data touched.
    """
    known = [member.value for member in Adjacency]
    require(*problems, name_problems("adjacency", mechanism.adjacency, known))
    object.__setattr__(mechanism, "adjacency", Adjacency(mechanism.adjacency))
    for field in dataclasses.fields(mechanism):
        if field.type is float:
            object.__setattr__(mechanism, field.name, float(getattr(mechanism, field.name)))


def narrowed_adjacency_problems(
    adjacency: object, known: Iterable[Adjacency], reason: str
) -> list[str]:
    """Check a relation that is one of those that exist, but not of those a mechanism can state.

    Args:
        adjacency: What was given.
        known: The relations for which the mechanism has a meaning.
        reason: Why not the others: one sentence.

    Returns:
        Messages, empty if the value obeys or is no relation at all, which `settle` reports.

    Privacy:
        Nothing, no data touched.
    """
    names = [member.value for member in known]
    if adjacency not in [member.value for member in Adjacency] or adjacency in names:
        return []
    message = (
        f"Expected adjacency={Adjacency(adjacency).value} to be {' or '.join(names)}. {reason} "
        f"Set adjacency to {names[0]}."
    )
    return [message]


def fields_as_json(mechanism: "Mechanism") -> dict[str, object]:
    """Return the kind and all fields of a mechanism as JSON values.

    Args:
        mechanism: A frozen dataclass whose fields are numbers, texts, enums or mechanisms.

    Returns:
        The key ``kind``, then one key per field.

    Privacy:
        Nothing, no data touched (`test_json_and_back_is_the_same_mechanism`).
    """
    values = {
        field.name: _as_json(getattr(mechanism, field.name))
        for field in dataclasses.fields(mechanism)
    }
    return {"kind": mechanism.kind, **values}


def _as_json(value: Any) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_as_json(each) for each in value]
    return value.to_json() if hasattr(value, "to_json") else value
