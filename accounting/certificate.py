"""Certificates: what an artefact may claim, as the mechanisms that made it.

Epsilon is computed from the mechanisms whenever it is asked for, and never read from a file. A
certificate holds public numbers and given names only; no digest of any data.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dpft.accounting.accountants import Accountant, composition, epsilon
from dpft.accounting.canonical_json import canonical, digest_of, exactly, misfit, parsed
from dpft.accounting.composition import (
    Group,
    adjacency_of,
    groups_of,
    is_bounded,
    union,
    unit_of_runs,
)
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import DEFAULT_GRID
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.mechanisms import Adjacency, Composed, Mechanism, RepeatAndSelect, Unit
from dpft.accounting.profile import AttackBound, attack_bound, numerical_error
from dpft.accounting.rules import delta_problems, fraction_problems, require
from dpft.accounting.run_record import RunRecord
from dpft.accounting.version_one import run_of_version_one

__all__ = [
    "FORMAT_VERSION",
    "Certificate",
    "RunRecord",
]

FORMAT_VERSION = 2
_READ_VERSIONS = (1, FORMAT_VERSION)
_FIELDS = {"format_version", "runs"}
_MOST_USES = 1000  # pairs of them are compared, also where a stranger wrote the file
_MOST_POINTS = 1e9  # of all distributions of losses that are computed: some minutes
_POINTS_OF_A_STEP = 1e5  # about
_PUBLISHED = {
    "artefact",
    "claims",
}  # stand beside the runs in a file; `dpft.accounting.publication`


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What an artefact may claim: the runs that made it.

    Args:
        runs: At least one; no two with the same `run_id`. Their order does not matter. With a run
            that started from something certified come all runs of that certificate.
        format_version: Version of the written form.

    Raises:
        ConfigurationError: If there is no run, or more than a thousand, a name appears twice, an
            input's runs are missing or not those that its digest names, or the version is unknown.

    Privacy:
        All runs are taken to share records, also under different names of data sets, unless a
        public rule says otherwise: an overlap that is not excluded is assumed
        (`test_two_runs_spend_more_than_one`).
    """

    runs: tuple[RunRecord, ...]
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check the version and the runs, then sort them by name."""
        require(_version_problems(self.format_version), _runs_problems(self.runs))
        object.__setattr__(self, "runs", tuple(sorted(self.runs, key=lambda run: run.run_id)))
        require(_closure_problems(self.runs))

    @property
    def adjacency(self) -> Adjacency:
        """The neighbouring relation for which epsilon holds: the coarsest of the runs'.

        Raises:
            ConfigurationError: If a run cannot be computed for it.
        """
        bounded = [run for run in self.runs if is_bounded(run)]
        return adjacency_of(bounded) if bounded else self.runs[0].adjacency

    @property
    def unit(self) -> Unit:
        """Whose data the guarantee covers.

        Raises:
            ConfigurationError: If the runs differ in it.
        """
        return unit_of_runs(self.runs)

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`: by this, those who start from the artefact name its runs."""
        return digest_of(self.to_json())

    @property
    def is_bounded(self) -> bool:
        """Whether epsilon is finite: every run was private, and started from what is known."""
        return all(is_bounded(run) for run in self.runs)

    def epsilon(self, delta: float | None = None, *, accountant: str | None = None) -> float:
        """Compute what a unit of privacy spent in all runs that it can have been part of.

        Args:
            delta: In (0, 1); unset: the delta that all runs were planned with.
            accountant: Unset: the one that all runs were planned with, else ``pld``, or ``rdp``
                where a run repeated and selected.

        Returns:
            An upper bound: the largest over maximal cliques of overlapping runs. Infinite if any
            run was not private, or started from something unknown.

        Raises:
            ConfigurationError: If delta is unset and the runs differ in theirs, if delta is out of
                range, if the runs share no neighbouring relation or unit, or if their mechanisms
                would take hours to compute.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched. Never read from the file that the certificate came from
            (`test_epsilon_follows_the_mechanism_and_is_not_stored`). The runs are taken as a set
            fixed beforehand, not as one whose later plans followed earlier outputs.
        """
        return self.binding(delta, accountant=accountant)[0]

    def binding(
        self, delta: float | None = None, *, accountant: str | None = None
    ) -> tuple[float, tuple[RunRecord, ...]]:
        """Return epsilon, and the runs whose sum it is.

        Args:
            delta: As for `epsilon`.
            accountant: As for `epsilon`.

        Returns:
            Epsilon, and the clique that costs the most; where epsilon is infinite, the runs that
            have no bound.

        Raises:
            ConfigurationError: As for `epsilon`.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched.
        """
        at = self._planned_delta() if delta is None else delta
        require(delta_problems(at))
        if not self.is_bounded:
            return math.inf, tuple(run for run in self.runs if not is_bounded(run))
        spent, group = self._most(at, accountant or self.accountant)
        return spent, group.runs

    def numerical_error(self, delta: float | None = None) -> float | None:
        """Return by how much epsilon may exceed the truth because of the accountant's grid.

        Args:
            delta: As for `epsilon`.

        Returns:
            `dpft.accounting.numerical_error` of what binds; None where nothing is discretised, the
            accountant states none, or epsilon is infinite.

        Raises:
            ConfigurationError: As for `epsilon`.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched. The truth is never above epsilon because of it.
        """
        if not self.is_bounded or self.accountant != Accountant.PLD.value:
            return None
        at = self._planned_delta() if delta is None else delta
        _, group = self._most(at, self.accountant)
        return numerical_error(group.mechanisms, at)

    def attack_bound(self, fpr: float, delta: float | None = None) -> AttackBound:
        """Bound how often any membership attack on a unit is right.

        Args:
            fpr: Its false positive rate, in (0, 1).
            delta: As for `epsilon`; it counts only where the bound is not from the curve.

        Returns:
            The largest over maximal cliques of overlapping runs; a rate of 1 if epsilon is
            infinite. It is from the curve if it is so for every clique.

        Raises:
            ConfigurationError: As for `epsilon`, or if fpr is out of range.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched: the runs are those of `epsilon`
            (`test_attacks_are_bounded_over_all_cliques`).
        """
        at = self._planned_delta() if delta is None else delta
        require(delta_problems(at), fraction_problems("fpr", fpr))
        if not self.is_bounded:
            return AttackBound(1.0, from_curve=False)
        bounds = [
            attack_bound(group.mechanisms, at, fpr, accountant=self.accountant)
            for group in _costliest(groups_of(self.runs))
        ]
        return AttackBound(
            max(bound.rate for bound in bounds),
            from_curve=all(bound.from_curve for bound in bounds),
        )

    def _most(self, delta: float, accountant: str) -> tuple[float, Group]:
        """Return the largest cost of all cliques, and the clique; the runs are all bounded."""
        counts = {use.num_records for run in self.runs for use in run.touched}
        require(*(delta_problems(delta, count) for count in counts))
        groups = _costliest(groups_of(self.runs))
        require(_effort_problems(groups))
        costs = [
            (epsilon(group.mechanisms, delta, accountant=accountant), group) for group in groups
        ]
        return max(costs, key=lambda cost: cost[0])

    @property
    def accountant(self) -> str:
        """The accountant that epsilon is computed with unless another is named."""
        names = {run.accountant for run in self.runs}
        if len(names) == 1:
            return names.pop()
        repeated = any(_repeats(run.mechanism) for run in self.runs)
        return Accountant.RDP.value if repeated else Accountant.PLD.value

    def compose(self, *others: "Certificate") -> "Certificate":
        """Return the certificate of what is made from several artefacts.

        Args:
            others: Certificates of the others. Sums, differences, averages and choices that look
                at no private record are post-processing and need nothing else.

        Returns:
            The union of their runs.

        Raises:
            ConfigurationError: If one name stands for two different runs.

        Privacy:
            Nothing, no data touched. Negation and removal refund nothing
            (`test_union_is_commutative_associative_and_idempotent`).
        """
        return Certificate(union(run for each in (self, *others) for run in each.runs))

    def with_release(self, run: RunRecord) -> "Certificate":
        """Return the certificate after one more release, such as a choice or a noisy metric.

        Args:
            run: The release.

        Returns:
            The union with that run.

        Raises:
            ConfigurationError: If its name stands for another run, or its inputs are missing.

        Privacy:
            Nothing, no data touched.
        """
        return Certificate(union([*self.runs, run]))

    def as_input(self, name: str, role: InputRole) -> Input:
        """Return how a run that starts from this artefact names it.

        Args:
            name: Public name of the artefact.
            role: What it is used as.

        Privacy:
            Nothing, no data touched.
        """
        return Input(
            name=name,
            role=role,
            status=InputStatus.CERTIFIED,
            certificate=self.digest,
            runs=tuple(run.run_id for run in self.runs),
        )

    def _planned_delta(self) -> float:
        deltas = sorted({run.delta for run in self.runs})
        if len(deltas) > 1:
            raise ConfigurationError(
                f"Expected delta={deltas} to be the same for all runs. Epsilon belongs to one "
                "delta. State the delta that is wanted."
            )
        return deltas[0]

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Privacy:
            Nothing, no data touched.
        """
        return {"format_version": self.format_version, "runs": [run.fields() for run in self.runs]}

    def to_json(self) -> str:
        """Write the certificate: equal certificates give equal text.

        Returns:
            JSON with sorted keys, without spaces or line breaks, in ASCII.

        Privacy:
            Nothing, no data touched.
        """
        return canonical(self.fields())

    @classmethod
    def from_json(cls, text: str) -> "Certificate":
        """Read what `to_json` wrote, in any layout, also out of a published file.

        Args:
            text: JSON with exactly the known fields. What a published file states beside the runs
                is left aside here; `dpft.accounting.publication` reads and checks it.

        Returns:
            A certificate equal to the one written. One of version 1 becomes the same statement in
            the present version.

        Raises:
            ConfigurationError: If the text is no JSON, a key is unknown, missing or repeated, the
                version is unknown, or a value is out of range.

        Privacy:
            Nothing, no data touched. What is not understood is refused, since it may change the
            guarantee (`test_unknown_fields_are_refused`).
        """
        return cls.from_fields(parsed("certificate", text))

    @classmethod
    def from_fields(cls, fields: object) -> "Certificate":
        """Read JSON values, as `from_json` reads text.

        Args:
            fields: What `fields` returned, or a published file holds.

        Returns:
            The certificate.

        Raises:
            ConfigurationError: As for `from_json`.

        Privacy:
            Nothing, no data touched.
        """
        version = fields.get("format_version") if isinstance(fields, Mapping) else None
        require(_version_problems(version, _READ_VERSIONS))
        assert isinstance(fields, Mapping), "only a mapping has a version"
        published = _PUBLISHED if version == FORMAT_VERSION else set()
        values = exactly("certificate", fields, _FIELDS | (published & set(fields)))
        if not isinstance(values["runs"], list):
            raise ConfigurationError(misfit("runs", values["runs"], "a list"))
        runs = (
            values["runs"] if version == FORMAT_VERSION else map(run_of_version_one, values["runs"])
        )
        return cls(tuple(RunRecord.from_fields(run) for run in runs))


def _costliest(groups: Sequence[Group]) -> list[Group]:
    """Leave out groups that are contained in others, as those cost no more."""
    counted = [(Counter(group.mechanisms), group) for group in groups]
    kept: list[tuple[Counter[Mechanism], Group]] = []
    for counts, group in sorted(counted, key=lambda each: -each[0].total()):
        if not any(counts <= larger for larger, _ in kept):
            kept.append((counts, group))
    return [group for _, group in kept]


def _effort_problems(groups: Sequence[Group]) -> list[str]:
    """Refuse what would be computed for hours: a stranger may have written the mechanisms."""
    points = 0.0
    for group in groups:
        parts = composition(group.mechanisms)
        points += len(parts) * (_POINTS_OF_A_STEP + DEFAULT_GRID.points_for(parts))
    if points <= _MOST_POINTS:
        return []
    rule = f"of at most {_MOST_POINTS:g} points of a grid, as all realistic ones are together"
    return [misfit("mechanisms", f"{points:.3g} points", rule)]


def _repeats(mechanism: Mechanism | None) -> bool:
    if isinstance(mechanism, Composed):
        return any(_repeats(part) for part in mechanism.parts)
    return isinstance(mechanism, RepeatAndSelect)


def _version_problems(version: object, known: Sequence[int] = (FORMAT_VERSION,)) -> list[str]:
    if version in known and not isinstance(version, bool | float):
        return []
    message = (
        f"Expected format_version={version!r} to be {' or '.join(map(str, known))}. Another "
        "version may mean another guarantee. Read it with the version of dpft that wrote it."
    )
    return [message]


def _runs_problems(runs: object) -> list[str]:
    if not isinstance(runs, tuple) or not runs or not _all_records(runs):
        return [misfit("runs", runs, "a tuple of at least one RunRecord")]
    names = [run.run_id for run in runs]
    if len(set(names)) < len(names):
        return [misfit("run_id", sorted(names), "without repetition")]
    uses = sum(len(run.touched) for run in runs)
    if uses > _MOST_USES:
        return [misfit("runs", uses, f"at most {_MOST_USES} runs and data sets of runs")]
    return []


def _all_records(runs: Iterable[object]) -> bool:
    return all(isinstance(run, RunRecord) for run in runs)


def _closure_problems(runs: Sequence[RunRecord]) -> list[str]:
    """Check that every certified input brought its runs along, and that they are the ones named."""
    named = {run.run_id: run for run in runs}
    return [
        problem
        for run in runs
        for each in run.inputs
        if each.status is InputStatus.CERTIFIED
        for problem in _input_problems(run, each, named)
    ]


def _input_problems(run: RunRecord, given: Input, named: Mapping[str, RunRecord]) -> list[str]:
    absent = sorted(set(given.runs) - set(named))
    if absent or run.run_id in given.runs:
        rule = f"a run of the certificate, as its input {given.name!r} needs it"
        return [misfit("run_id", absent or run.run_id, rule)]
    members = [named[name] for name in given.runs]
    theirs = {name for each in members for input_ in each.inputs for name in input_.runs}
    fields = {"format_version": FORMAT_VERSION, "runs": [each.fields() for each in members]}
    if not theirs <= set(given.runs) or digest_of(canonical(fields)) != given.certificate:
        rule = f"the digest of the runs {list(given.runs)} of the input {given.name!r}"
        return [misfit("input.certificate", given.certificate, rule)]
    return []
