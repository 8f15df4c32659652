"""How long a mechanism runs, what its first steps are, and whose data it covers."""

import dataclasses
from typing import TypeVar

from dpft.accounting.errors import ConfigurationError
from dpft.accounting.mechanisms.adjacency import Unit
from dpft.accounting.mechanisms.composite import Composed, RepeatAndSelect
from dpft.accounting.mechanisms.discrete_gaussian import DiscreteGaussian
from dpft.accounting.mechanisms.gaussian import FixedBatchGaussian
from dpft.accounting.mechanisms.poisson import PoissonGaussian, UserPoissonGaussian
from dpft.accounting.mechanisms.protocol import Mechanism

__all__ = [
    "first_steps",
    "steps_of",
    "unit_of",
    "with_steps",
]

_Known = TypeVar("_Known", bound=Mechanism)


def steps_of(mechanism: Mechanism) -> int:
    """Return the number of steps of a mechanism.

    Args:
        mechanism: Any.

    Returns:
        Its steps; 1 for what happens once or not at all: a selection, an opaque release, a
        composition, repeat-and-select.

    Privacy:
        Nothing, no data touched.
    """
    steps = getattr(mechanism, "steps", 1)
    assert isinstance(steps, int), "every mechanism checks its steps"
    return steps


def first_steps(mechanism: _Known, steps: int) -> _Known | None:
    """Return what the first steps of a mechanism are.

    Args:
        mechanism: Any.
        steps: How many, in [0, `steps_of(mechanism)`].

    Returns:
        The mechanism cut to these steps; None for no step at all.

    Raises:
        ConfigurationError: If there are not that many steps; what happens once has one step.

    Privacy:
        The first steps and the rest cost together no less than the whole, and a record takes part
        in at most as many of them (`test_the_first_steps_and_the_rest_make_the_whole`).

    Example:
        >>> from dpft.accounting import PoissonGaussian
        >>> first_steps(PoissonGaussian(1.0, 0.1, 300), 40).steps
        40
    """
    whole = steps_of(mechanism)
    if not isinstance(steps, int) or isinstance(steps, bool) or not 0 <= steps <= whole:
        raise ConfigurationError(
            f"Expected steps={steps!r} to be an integer in [0, {whole}]. That is how many steps "
            f"{mechanism.kind} has; what happens once is charged as a whole. Set steps to {whole}."
        )
    if steps in {0, whole}:
        return mechanism if steps else None
    return with_steps(mechanism, steps)


def with_steps(mechanism: _Known, steps: int) -> _Known:
    """Return a mechanism with another number of steps.

    Args:
        mechanism: One that has steps.
        steps: Their number, an integer >= 1.

    Returns:
        The mechanism with so many; in fixed batches a record takes part in no more of them than
        before.

    Raises:
        ConfigurationError: If `steps` is out of range.

    Privacy:
        Nothing, no data touched (`test_another_number_of_steps_leaves_all_else_as_it_was`).
    """
    if isinstance(mechanism, FixedBatchGaussian):
        limit = min(steps, mechanism.participations)
        return dataclasses.replace(mechanism, steps=steps, participations=limit)
    return dataclasses.replace(mechanism, steps=steps)


def unit_of(mechanism: Mechanism) -> Unit:
    """Return whose data a mechanism covers.

    Args:
        mechanism: Any.

    Returns:
        `user` for mechanisms that are stated for users, `record` for all others; `PoissonGaussian`
        and `DiscreteGaussian` say it themselves, and a mechanism made of others has their unit.

    Raises:
        ConfigurationError: If the parts of a mechanism have different units.

    Privacy:
        Nothing, no data touched (`test_parts_of_different_units_are_refused`).
    """
    if isinstance(mechanism, RepeatAndSelect):
        return unit_of(mechanism.base)
    if isinstance(mechanism, PoissonGaussian | DiscreteGaussian):
        return mechanism.unit
    if not isinstance(mechanism, Composed):
        return Unit.USER if isinstance(mechanism, UserPoissonGaussian) else Unit.RECORD
    units = sorted({unit_of(part) for part in mechanism.parts})
    if len(units) > 1:
        raise ConfigurationError(
            "Expected unit=record and user to be the same for all parts. A guarantee covers one "
            "unit. State all of them for users."
        )
    return units[0]
