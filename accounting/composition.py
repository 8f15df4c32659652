"""How runs add up: the relation they share, which of them overlap, and what each group costs.

Always from the mechanisms: a curve that was computed is not composed further.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from dpft.accounting.canonical_json import misfit
from dpft.accounting.dataset_use import DatasetUse
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.inputs import InputStatus
from dpft.accounting.mechanisms import (
    Adjacency,
    Composed,
    DiscreteGaussian,
    FixedBatchGaussian,
    Gaussian,
    Mechanism,
    PoissonGaussian,
    RepeatAndSelect,
    TruncatedPoissonGaussian,
    Unit,
    UserPoissonGaussian,
)
from dpft.accounting.overlap import maximal_cliques
from dpft.accounting.run_record import RunRecord

__all__ = [
    "Group",
    "adjacency_of",
    "groups_of",
    "is_bounded",
    "under",
    "union",
    "unit_of_runs",
]

# From the finest to the coarsest: what was stated for one can be computed for those behind it.
_ORDER = (Adjacency.ADD_OR_REMOVE, Adjacency.ZERO_OUT, Adjacency.REPLACE_ONE)
# Their noise is stated in units of the clip norm, whatever the relation. That of Laplace is stated
# in units of a sensitivity under one relation, and the rest state a bound and no noise at all.
_CONVERTIBLE = (
    DiscreteGaussian,
    FixedBatchGaussian,
    Gaussian,
    PoissonGaussian,
    TruncatedPoissonGaussian,
    UserPoissonGaussian,
)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that one unit of privacy can have been part of together.

    Args:
        runs: The runs, by name.
        mechanisms: What they did to such a unit, all under one relation.
    """

    runs: tuple[RunRecord, ...]
    mechanisms: tuple[Mechanism, ...]


def union(runs: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    """Return runs without repetition, by name.

    Args:
        runs: Any number.

    Returns:
        Each run once: what is released twice is one release.

    Raises:
        ConfigurationError: If one name stands for two different runs.

    Privacy:
        Nothing, no data touched (`test_union_is_commutative_associative_and_idempotent`).
    """
    named: dict[str, RunRecord] = {}
    for run in runs:
        if named.setdefault(run.run_id, run) != run:
            raise ConfigurationError(
                f"Expected run_id={run.run_id!r} to name one run. Two different runs of one name "
                "cannot be told apart, and one would go uncounted. Take both certificates from the "
                "folders where they were written."
            )
    return tuple(named[name] for name in sorted(named))


def unit_of_runs(runs: Sequence[RunRecord]) -> Unit:
    """Return the unit of privacy that all runs share.

    Args:
        runs: At least one.

    Raises:
        ConfigurationError: If they differ: what a record-level run costs a whole user is unknown.

    Privacy:
        Nothing, no data touched.
    """
    units = {run.unit for run in runs}
    if len(units) > 1:
        raise ConfigurationError(
            "Expected unit=record and user to be the same for all runs. A guarantee covers one "
            "unit, and what a run for records costs a user of many records is not known. Train "
            "all of them for users."
        )
    return units.pop()


def adjacency_of(
    runs: Sequence[RunRecord], at_least: Adjacency = Adjacency.ADD_OR_REMOVE
) -> Adjacency:
    """Return the neighbouring relation under which runs are composed: the coarsest of theirs.

    Args:
        runs: Bounded runs, at least one.
        at_least: That of a further mechanism to be composed with them.

    Raises:
        ConfigurationError: If a run cannot be computed for it.

    Privacy:
        From add or remove to zero-out to replace-one, by computing again from the mechanism, and
        never back: a number of records that was counted is not upgraded to a stated one
        (`test_a_counted_number_of_records_is_never_upgraded`).
    """
    found = max((at_least, *(run.adjacency for run in runs)), key=_ORDER.index)
    for run in runs:
        _converted(run, found)
    return found


def under(mechanism: Mechanism, adjacency: Adjacency) -> Mechanism:
    """Return a mechanism as it is under another neighbouring relation.

    Args:
        mechanism: Any.
        adjacency: Its own relation, or a coarser one.

    Returns:
        The same noise and sampling, to be accounted for the other relation.

    Raises:
        ConfigurationError: If the mechanism does not say what it is under that relation.

    Privacy:
        Nothing, no data touched: the mechanism is computed again, no epsilon is converted.
    """
    if mechanism.adjacency is adjacency:
        return mechanism
    coarser = _ORDER.index(mechanism.adjacency) < _ORDER.index(adjacency)
    if coarser and isinstance(mechanism, _CONVERTIBLE):
        return dataclasses.replace(mechanism, adjacency=adjacency)
    if coarser and isinstance(mechanism, RepeatAndSelect):
        base = under(mechanism.base, adjacency)
        return dataclasses.replace(mechanism, base=base, adjacency=adjacency)
    if coarser and isinstance(mechanism, Composed):
        parts = tuple(under(part, adjacency) for part in mechanism.parts)
        return dataclasses.replace(mechanism, parts=parts, adjacency=adjacency)
    raise ConfigurationError(
        f"Expected adjacency={mechanism.adjacency.value} of {mechanism.kind} to be "
        f"{adjacency.value}, as for the other runs. A guarantee holds for one neighbouring "
        "relation, and this one cannot be computed for another. Run all of them under one."
    )


def is_bounded(run: RunRecord) -> bool:
    """Return whether a run, and what it started from, have a finite epsilon.

    Args:
        run: Any.

    Privacy:
        Nothing, no data touched (`test_an_unknown_input_makes_epsilon_infinite`).
    """
    known = all(each.status is not InputStatus.UNKNOWN for each in run.inputs)
    return run.private and run.mechanism is not None and known


def groups_of(runs: Sequence[RunRecord]) -> tuple[Group, ...]:
    """Return the groups of runs whose costs add up for somebody; epsilon is the largest of them.

    Args:
        runs: Bounded runs, at least one, of one unit.

    Returns:
        The maximal cliques of the overlap graph.

    Raises:
        ConfigurationError: If the runs share no relation or unit.

    Privacy:
        Runs overlap unless a public rule says otherwise: the same data set, the same rule, other
        parts. Under replace-one they overlap even then, since the record that comes may lie in
        another part than the one that goes (`tests/accounting/test_composition.py`).
    """
    unit_of_runs(runs)
    adjacency = adjacency_of(runs)
    touches = [(run, use) for run in runs for use in run.touched]
    replaced = adjacency is Adjacency.REPLACE_ONE
    found = maximal_cliques(touches, lambda a, b: replaced or not _are_disjoint(a[1], b[1]))
    return tuple(_group(clique, adjacency) for clique in found)


def _are_disjoint(one: DatasetUse, other: DatasetUse) -> bool:
    if one.dataset_id != other.dataset_id or one.partition is None or other.partition is None:
        return False
    return one.partition.rule == other.partition.rule and one.partition.part != other.partition.part


def _group(clique: Sequence[tuple[RunRecord, DatasetUse]], adjacency: Adjacency) -> Group:
    runs = union(run for run, _ in clique)
    uses = {run.run_id: [use for each, use in clique if each.run_id == run.run_id] for run in runs}
    return Group(runs, tuple(_cost(run, uses[run.run_id], adjacency) for run in runs))


def _cost(run: RunRecord, uses: Sequence[DatasetUse], adjacency: Adjacency) -> Mechanism:
    """Return what a run did to a unit that lies in all of these data sets.

    Several of a unit's records may enter one step. Their number is at most that of the data sets,
    and positive with probability at most one minus the product of the chances to stay out; so k
    clip norms at that rate dominate (Choquette-Choo et al. 2023, lemma 4.5: more is worse).
    """
    mechanism = _converted(run, adjacency)
    if not run.uses:
        return mechanism
    assert isinstance(mechanism, PoissonGaussian), "checked by the record"
    if len(uses) == 1:
        return dataclasses.replace(mechanism, sample_rate=uses[0].sample_rate or 1.0)
    out = math.prod(1.0 - (use.sample_rate or 1.0) for use in uses)
    return dataclasses.replace(
        mechanism,
        noise_multiplier=mechanism.noise_multiplier / len(uses),
        sample_rate=min(1.0, math.nextafter(1.0 - out, math.inf)),
    )


def _converted(run: RunRecord, adjacency: Adjacency) -> Mechanism:
    assert run.mechanism is not None, "only bounded runs are composed"
    derived = run.adjacency is Adjacency.ADD_OR_REMOVE and run.num_records is None
    if derived and adjacency is not Adjacency.ADD_OR_REMOVE:
        rule = f"public to compute the run {run.run_id} for {adjacency.value}"
        raise ConfigurationError(misfit("num_records", None, rule))
    return under(run.mechanism, adjacency)
