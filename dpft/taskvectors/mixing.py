"""Mixtures of prompts and prefixes: side by side, not added up."""

import dataclasses
from collections.abc import Sequence

from dpft.adapters.algebra import Family, Offset
from dpft.adapters.algebra.prompts import ROWS, mixed
from dpft.errors import ConfigurationError
from dpft.taskvectors.checks import refuse_unaddable
from dpft.taskvectors.vector import TaskVector, derived

__all__ = ["mixture"]


def mixture(vectors: Sequence[TaskVector]) -> TaskVector:
    """Put prompts or prefixes one after another.

    For prefixes this is attention to all of them at once: their outputs mixed by weights that
    depend on the record, in any order. For prompts, rows and words also take later positions. It is
    not the sum of effects, and nothing is weighted or negated.

    Args:
        vectors: Two or more prompts, or prefixes, each a single one of coefficient 1, without heads
            (`without_heads()`).

    Returns:
        A new vector of as many rows as all of them.

    Raises:
        ConfigurationError: If they are anything else.

    Privacy:
        Post-processing: the runs of all of them.
    """
    _check(vectors)
    for index, vector in enumerate(vectors):
        before = [term.leaf for each in vectors[:index] for term in each.terms]
        fresh = [term.leaf for term in vector.terms if term.leaf not in before]
        refuse_unaddable(before, fresh)
    deltas = [vector.delta for vector in vectors]
    parts = [part for delta in deltas if isinstance(part := delta.parts[ROWS], Offset)]
    made = dataclasses.replace(deltas[0], parts={ROWS: mixed(parts)})
    return derived(vectors, made, {"method": "mixture"})


def _check(vectors: Sequence[TaskVector]) -> None:
    families = (Family.PROMPT, Family.PREFIX)
    fits = len(vectors) > 1 and all(
        len(vector.terms) == 1
        and vector.terms[0].coefficient == 1
        and vector.delta.family in families
        and not vector.delta.heads
        for vector in vectors
    )
    if not fits:
        raise ConfigurationError(
            "Expected two or more single prompts, or prefixes, of coefficient 1 and without heads. "
            "A mixture has no weights and no negation. Call without_heads(), or add vectors with a "
            "recorded start by +."
        )
