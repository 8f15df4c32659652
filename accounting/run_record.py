"""One run in public numbers: what it did to which records, and what it started from."""

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from dpft.accounting.canonical_json import exactly, is_digest, misfit, text_problems
from dpft.accounting.dataset_use import DatasetUse, Partition, partition_problems
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.inputs import Input
from dpft.accounting.mechanisms import (
    KNOWN_MECHANISMS,
    Adjacency,
    Composed,
    Mechanism,
    PoissonGaussian,
    RepeatAndSelect,
    TruncatedPoissonGaussian,
    Unit,
    mechanism_from_json,
    unit_of,
)
from dpft.accounting.registry import accountant_names
from dpft.accounting.rules import (
    count_problems,
    delta_problems,
    name_problems,
    positive_problems,
    require,
)
from dpft.accounting.schedule import sample_rate_of

__all__ = ["LedgerReference", "RunRecord", "SelectionStatus"]

_NAMES = ("run_id", "dataset_id", "clipping", "generator", "sampler")
_ENUMS = ("adjacency", "selection")


class SelectionStatus(str, Enum):
    """How the settings of a run were chosen.

    `none`: fixed beforehand, without looking at records. `accounted`: by a mechanism that is part
    of the certificate. `not_accounted`: nothing is claimed.
    """

    NONE = "none"
    ACCOUNTED = "accounted"
    NOT_ACCOUNTED = "not_accounted"


@dataclasses.dataclass(frozen=True)
class LedgerReference:
    """Where a run stands in the ledger that charged it.

    Args:
        head: Hash of the ledger's last entry when the certificate was written: 64 hexadecimal
            digits.
        entry: Number of that entry, >= 1.

    Raises:
        ConfigurationError: If a field is out of range.

    Privacy:
        Nothing, no data touched. Entries hold public numbers and given names only.
    """

    head: str
    entry: int

    def __post_init__(self) -> None:
        """Check both fields."""
        rule = "a SHA-256 in lower-case hexadecimal digits"
        require(
            [] if is_digest(self.head) else [misfit("ledger.head", self.head, rule)],
            count_problems("ledger.entry", self.entry),
        )

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values.

        Privacy:
            Nothing, no data touched.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, fields: object) -> "LedgerReference":
        """Read what `fields` returned.

        Args:
            fields: Exactly its keys.

        Raises:
            ConfigurationError: If a key is unknown or missing, or a value is out of range.

        Privacy:
            Nothing, no data touched.
        """
        return cls(**exactly("ledger", fields, ["head", "entry"]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run in public numbers. What does not apply to a release is None.

    Args:
        run_id: Random name of the run; the same run in two certificates is counted once.
        dataset_id: Name the user gave to the data set.
        mechanism: What ran, or None if the run was not private.
        unit: What one neighbour differs in, that of the mechanism.
        adjacency: The neighbouring relation, that of the mechanism.
        num_records: Public number of records N, or None if the user did not make it public.
        expected_batch_size: Mean of the Poisson sample, >= 1, or None where nothing is sampled.
        clipping: Name of the clipping style, or of what bounds one record's influence.
        clip_norm: Bound C on the l2 norm of one record's contribution, > 0, or None.
        delta: At which delta the run was planned, in (0, 1), below 1/N if N is known.
        private: Whether contributions were bounded and noised all along.
        generator: Where the noise came from.
        sampler: How records were sampled.
        accountant: Which accountant the run was planned with.
        partition: The part of the data set that was used, or None for all of it.
        uses: Where several data sets are sampled, all of them, this one first; else empty.
        inputs: What the run started from.
        selection: How the settings were chosen.
        divisor: Public number by which the noisy sum is divided, >= 1, or None.
        versions: Names and versions of the software that ran.
        excluded: What the guarantee does not cover: public sentences.
        ledger: Where the run stands in a ledger, or None.

    Raises:
        ConfigurationError: If a field is out of range, or two contradict each other.

    Privacy:
        Nothing, no data touched. Where N is public, the sample rate of the mechanism is exactly
        expected_batch_size / N (`test_a_sample_rate_that_is_not_batch_over_records_is_refused`).
    """

    run_id: str
    dataset_id: str
    mechanism: Mechanism | None
    unit: Unit = Unit.RECORD
    adjacency: Adjacency
    num_records: int | None
    expected_batch_size: int | None
    clipping: str
    clip_norm: float | None
    delta: float
    private: bool
    generator: str
    sampler: str
    accountant: str
    partition: Partition | None = None
    uses: tuple[DatasetUse, ...] = ()
    inputs: tuple[Input, ...] = ()
    selection: SelectionStatus = SelectionStatus.NOT_ACCOUNTED
    divisor: int | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    excluded: tuple[str, ...] = ()
    ledger: LedgerReference | None = None

    def __post_init__(self) -> None:
        """Check every field, then the rules that span several."""
        require(
            *(text_problems(name, getattr(self, name)) for name in _NAMES),
            self._number_problems(),
            self._name_problems(),
            self._part_problems(),
        )
        object.__setattr__(self, "unit", Unit(self.unit))
        object.__setattr__(self, "adjacency", Adjacency(self.adjacency))
        object.__setattr__(self, "selection", SelectionStatus(self.selection))
        object.__setattr__(self, "versions", dict(self.versions))
        if self.clip_norm is not None:
            object.__setattr__(self, "clip_norm", float(self.clip_norm))
        require(self._mechanism_problems(), self._use_problems())

    def _number_problems(self) -> list[str]:
        counts = ("num_records", "expected_batch_size", "divisor")
        given = {name: getattr(self, name) for name in counts}
        return [
            *(
                problem
                for name, value in given.items()
                if value is not None
                for problem in count_problems(name, value)
            ),
            *([] if self.clip_norm is None else positive_problems("clip_norm", self.clip_norm)),
            *delta_problems(self.delta, self.num_records),
        ]

    def _name_problems(self) -> list[str]:
        flag = isinstance(self.private, bool)
        return [
            *name_problems("unit", self.unit, [member.value for member in Unit]),
            *name_problems("adjacency", self.adjacency, [member.value for member in Adjacency]),
            *name_problems("selection", self.selection, [each.value for each in SelectionStatus]),
            *name_problems("accountant", self.accountant, accountant_names()),
            *([] if flag else [misfit("private", self.private, "true or false")]),
        ]

    def _part_problems(self) -> list[str]:
        kinds: dict[str, type] = {"inputs": Input, "uses": DatasetUse, "excluded": str}
        wrong = [
            misfit(name, getattr(self, name), f"a tuple of {kind.__name__}")
            for name, kind in kinds.items()
            if not _all_are(kind, getattr(self, name))
        ]
        if not _maps_texts(self.versions):
            wrong.append(misfit("versions", self.versions, "a mapping from names to versions"))
        return [*partition_problems(self.partition), *_ledger_problems(self.ledger), *wrong]

    def _mechanism_problems(self) -> list[str]:
        if self.mechanism is None:
            return [misfit("mechanism", None, "given for a private run")] if self.private else []
        is_known: bool = isinstance(self.mechanism, KNOWN_MECHANISMS)
        if not is_known:
            return [misfit("mechanism", self.mechanism, "a known mechanism")]
        problems = []
        if self.mechanism.adjacency is not self.adjacency:
            problems.append(misfit("adjacency", self.adjacency.value, "that of the mechanism"))
        if unit_of(self.mechanism) is not self.unit:
            problems.append(misfit("unit", self.unit.value, "that of the mechanism"))
        for part in _parts(self.mechanism):
            problems.extend(self._sampling_problems(part))
        return problems

    def _sampling_problems(self, part: Mechanism) -> list[str]:
        """Check the rate and the N of what samples against the batch size and the public N."""
        records, batch = self.num_records, self.expected_batch_size
        problems = []
        if isinstance(part, TruncatedPoissonGaussian) and part.num_records != records:
            problems.append(misfit("num_records", records, f"{part.num_records}"))
        found = getattr(part, "sample_rate", None)
        if found is None or records is None:
            return problems
        if batch is None:
            return [*problems, misfit("expected_batch_size", None, "given for a sampled run")]
        rate = sample_rate_of(records, batch)
        return problems if found == rate else [*problems, misfit("sample_rate", found, f"{rate!r}")]

    def _use_problems(self) -> list[str]:
        if not self.uses:
            return []
        own = DatasetUse(self.dataset_id, self.num_records, self._own_rate(), self.partition)
        names = [(use.dataset_id, use.partition) for use in self.uses]
        problems = []
        if len(self.uses) < 2 or self.uses[0] != own or len(set(names)) < len(names):
            rule = f"several data sets, each once, the first of them {own!r}"
            problems.append(misfit("uses", self.uses, rule))
        if self.private and not isinstance(self.mechanism, PoissonGaussian):
            kind = getattr(self.mechanism, "kind", None)
            problems.append(misfit("mechanism", kind, "poisson_gaussian with several data sets"))
        elif self.private and any(use.sample_rate is None for use in self.uses):
            problems.append(misfit("uses", self.uses, "given with their sample rates"))
        return problems

    def _own_rate(self) -> float | None:
        return getattr(self.mechanism, "sample_rate", None)

    @property
    def touched(self) -> tuple[DatasetUse, ...]:
        """Every data set that the run touched, also if it is one."""
        if self.uses:
            return self.uses
        return (DatasetUse(self.dataset_id, self.num_records, self._own_rate(), self.partition),)

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            One key per field.

        Privacy:
            Nothing, no data touched.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {name: getattr(self, name).value for name in ("unit", *_ENUMS)}
        values["mechanism"] = None if self.mechanism is None else self.mechanism.to_json()
        for name in ("partition", "ledger"):
            values[name] = None if values[name] is None else values[name].fields()
        for name in ("inputs", "uses"):
            values[name] = [each.fields() for each in values[name]]
        return values | {"excluded": list(self.excluded), "versions": dict(self.versions)}

    @classmethod
    def from_fields(cls, fields: object) -> "RunRecord":
        """Read what `fields` returned.

        Args:
            fields: Exactly the keys that `fields` returns.

        Returns:
            A record equal to the one written.

        Raises:
            ConfigurationError: If a key is unknown or missing, or a value is out of range.

        Privacy:
            Nothing, no data touched.
        """
        values = exactly("run", fields, [field.name for field in dataclasses.fields(cls)])
        if values["mechanism"] is not None:
            values["mechanism"] = mechanism_from_json(values["mechanism"])
        if values["partition"] is not None:
            values["partition"] = Partition.from_fields(values["partition"])
        if values["ledger"] is not None:
            values["ledger"] = LedgerReference.from_fields(values["ledger"])
        values["inputs"] = tuple(map(Input.from_fields, _listed("inputs", values)))
        values["uses"] = tuple(map(DatasetUse.from_fields, _listed("uses", values)))
        values["excluded"] = tuple(_listed("excluded", values))
        return cls(**values)


def _ledger_problems(ledger: object) -> list[str]:
    if ledger is None or isinstance(ledger, LedgerReference):
        return []
    return [misfit("ledger", ledger, "a LedgerReference or None")]


def _listed(name: str, values: Mapping[str, Any]) -> list[Any]:
    found = values[name]
    if not isinstance(found, list):
        raise ConfigurationError(misfit(name, found, "a list"))
    return found


def _parts(mechanism: Mechanism) -> Iterator[Mechanism]:
    """Yield the mechanisms that one is made of, itself where it is made of none."""
    if isinstance(mechanism, RepeatAndSelect):
        yield from _parts(mechanism.base)
    elif isinstance(mechanism, Composed):
        for part in mechanism.parts:
            yield from _parts(part)
    else:
        yield mechanism


def _all_are(kind: type, values: object) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) and value for value in values)


def _maps_texts(values: object) -> bool:
    if not isinstance(values, Mapping):
        return False
    return all(isinstance(item, str) and item for pair in values.items() for item in pair)
