"""The allow-list of mechanisms, and how they are read from JSON. Nothing is found by its name."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.mechanisms.composite import Composed, RepeatAndSelect
from dpft.accounting.mechanisms.discrete_gaussian import DiscreteGaussian
from dpft.accounting.mechanisms.gaussian import FixedBatchGaussian, Gaussian
from dpft.accounting.mechanisms.laplace import DiscreteLaplace, Laplace
from dpft.accounting.mechanisms.one_shot import Opaque, Selection
from dpft.accounting.mechanisms.poisson import (
    PoissonGaussian,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
)
from dpft.accounting.mechanisms.protocol import Mechanism
from dpft.accounting.rules import name_problems, require

__all__ = [
    "KNOWN_MECHANISMS",
    "mechanism_from_json",
]

KNOWN_MECHANISMS: tuple[type[Any], ...] = (
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    Selection,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
)
_BY_KIND = {each.kind: each for each in KNOWN_MECHANISMS}
_LEFT_OUT: dict[str, set[str]] = {PoissonGaussian.kind: {"unit"}}  # where they have their default


def mechanism_from_json(fields: object) -> Mechanism:
    """Read any mechanism of the allow-list.

    Args:
        fields: A mapping written by `to_json` of one of the known mechanisms: exactly its keys.

    Returns:
        A mechanism equal to the one written.

    Raises:
        ConfigurationError: If it is no mapping, its kind is not known, a key is unknown or missing,
            or a value is out of range.

    Privacy:
        Nothing, no data touched. No class is looked up by a name from the file
        (`test_json_and_back_is_the_same_mechanism`).

    Example:
        >>> mechanism = PoissonGaussian(1.0, 0.1, 3)
        >>> mechanism_from_json(mechanism.to_json()) == mechanism
        True
    """
    if not isinstance(fields, Mapping):
        raise ConfigurationError(
            f"Expected mechanism={fields!r} to be a mapping of fields. Epsilon is computed from "
            "mechanisms alone. Read it with the version that wrote it."
        )
    require(name_problems("kind", fields.get("kind"), _BY_KIND))
    known = _BY_KIND[fields["kind"]]
    expected = {"kind", *(field.name for field in dataclasses.fields(known))}
    if not expected - _LEFT_OUT.get(known.kind, set()) <= set(fields) <= expected:
        raise ConfigurationError(
            f"Expected mechanism={sorted(map(str, fields))} of kind {known.kind!r} to have the "
            f"fields {sorted(expected)}. A field that is not understood may change the guarantee. "
            "Read it with the version that wrote it."
        )
    mechanism: Mechanism = known(
        **{name: _value(name, value) for name, value in fields.items() if name != "kind"}
    )
    return mechanism


def _value(name: str, value: object) -> object:
    """Read the fields that hold mechanisms; the constructors check all others."""
    if name == "base":
        return mechanism_from_json(value)
    if name == "parts" and isinstance(value, list):
        return tuple(mechanism_from_json(part) for part in value)
    return value
