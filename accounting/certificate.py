"""Certificates: what an artefact may claim, as the mechanisms that made it.

Epsilon is computed from the mechanisms whenever it is asked for, and never read from a file. A
certificate holds public numbers and given names only; no digest of any data.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from dpft.accounting.accountants import Accountant, epsilon
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.mechanisms import Adjacency, PoissonGaussian, mechanism_from_json
from dpft.accounting.registry import accountant_names
from dpft.accounting.rules import (
    count_problems,
    delta_problems,
    name_problems,
    positive_problems,
    require,
)
from dpft.accounting.schedule import sample_rate_of

__all__ = [
    "FORMAT_VERSION",
    "Certificate",
    "RunRecord",
]

FORMAT_VERSION = 1
_NAMES = ("run_id", "dataset_id", "clipping", "generator", "sampler")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run on one data set, in public numbers.

    Args:
        run_id: Random name of the run; the same run in two certificates is counted once.
        dataset_id: Name the user gave to the data set.
        mechanism: What ran, or None if the run was not private.
        unit: What one neighbour differs in; ``record`` is the only one known.
        adjacency: The neighbouring relation, that of the mechanism.
        num_records: Public number of records N, or None if the user did not make it public.
        expected_batch_size: Public divisor of the noisy sum, >= 1.
        clipping: Name of the clipping style.
        clip_norm: Bound C on the l2 norm of one record's contribution, > 0.
        delta: At which delta the run was planned, in (0, 1), below 1/N if N is known.
        private: Whether gradients were clipped and noised all along.
        generator: Where the noise came from.
        sampler: How records were sampled.
        accountant: Which accountant the run was planned with.
        inputs: Names of what the run started from, such as a base model.

    Raises:
        ConfigurationError: If a field is out of range, or two contradict each other.

    Privacy:
        Nothing, no data touched. Where N is public, the sample rate of the mechanism is exactly
        expected_batch_size / N (`test_a_sample_rate_that_is_not_batch_over_records_is_refused`).
    """

    run_id: str
    dataset_id: str
    mechanism: PoissonGaussian | None
    unit: str = "record"
    adjacency: Adjacency
    num_records: int | None
    expected_batch_size: int
    clipping: str
    clip_norm: float
    delta: float
    private: bool
    generator: str
    sampler: str
    accountant: str
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field, then the rules that span several."""
        require(*(_text_problems(name, getattr(self, name)) for name in _NAMES), self._problems())
        object.__setattr__(self, "adjacency", Adjacency(self.adjacency))
        object.__setattr__(self, "clip_norm", float(self.clip_norm))
        require(self._mechanism_problems())

    def _problems(self) -> list[str]:
        records = self.num_records
        return [
            *name_problems("unit", self.unit, ["record"]),
            *name_problems("adjacency", self.adjacency, [member.value for member in Adjacency]),
            *name_problems("accountant", self.accountant, accountant_names()),
            *([] if records is None else count_problems("num_records", records)),
            *count_problems("expected_batch_size", self.expected_batch_size),
            *positive_problems("clip_norm", self.clip_norm),
            *delta_problems(self.delta, records),
            *_flag_problems("private", self.private),
            *_inputs_problems(self.inputs),
        ]

    def _mechanism_problems(self) -> list[str]:
        mechanism: object = self.mechanism
        if mechanism is None:
            return _absence_problems(private=self.private)
        if not isinstance(mechanism, PoissonGaussian):
            return [_misfit("mechanism", mechanism, "a known mechanism")]
        problems = []
        if mechanism.adjacency is not self.adjacency:
            problems.append(_misfit("adjacency", self.adjacency.value, "that of the mechanism"))
        if self.num_records is not None:
            rate = sample_rate_of(self.num_records, self.expected_batch_size)
            if mechanism.sample_rate != rate:
                problems.append(_misfit("sample_rate", mechanism.sample_rate, f"{rate!r}"))
        return problems

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            One key per field.

        Privacy:
            Nothing, no data touched.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["mechanism"] = None if self.mechanism is None else self.mechanism.to_json()
        values["adjacency"] = self.adjacency.value
        values["inputs"] = list(self.inputs)
        return values

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
        values = _exactly("run", fields, [field.name for field in dataclasses.fields(cls)])
        if values["mechanism"] is not None:
            values["mechanism"] = mechanism_from_json(values["mechanism"])
        if isinstance(values["inputs"], list):
            values["inputs"] = tuple(values["inputs"])
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What an artefact may claim: the runs that made it.

    Args:
        runs: At least one; no two with the same `run_id`. Their order does not matter.
        format_version: Version of the written form.

    Raises:
        ConfigurationError: If there is no run, a name appears twice, or the version is unknown.

    Privacy:
        All runs are taken to share records, also under different names of data sets: an overlap
        that is not excluded is assumed (`test_two_runs_spend_more_than_one`).
    """

    runs: tuple[RunRecord, ...]
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check the version and the runs, then sort them by name."""
        require(_version_problems(self.format_version), _runs_problems(self.runs))
        object.__setattr__(self, "runs", tuple(sorted(self.runs, key=lambda run: run.run_id)))

    def epsilon(self, delta: float | None = None, *, accountant: str | None = None) -> float:
        """Compute what all runs spent together.

        Args:
            delta: In (0, 1); unset: the delta that all runs were planned with.
            accountant: Unset: the one that all runs were planned with, else ``pld``.

        Returns:
            An upper bound, infinite if any run was not private.

        Raises:
            ConfigurationError: If delta is unset and the runs differ in theirs, if delta is out of
                range, or if the runs differ in adjacency.
            AccountantError: If the accountant fails numerically.

        Privacy:
            Nothing, no data touched. Never read from the file that the certificate came from
            (`test_epsilon_follows_the_mechanism_and_is_not_stored`).
        """
        at = self._planned_delta() if delta is None else delta
        require(*(delta_problems(at, run.num_records) for run in self.runs))
        mechanisms = [run.mechanism for run in self.runs if run.private and run.mechanism]
        if len(mechanisms) < len(self.runs):
            return math.inf
        return epsilon(mechanisms, at, accountant=accountant or self._planned_accountant())

    def _planned_delta(self) -> float:
        deltas = sorted({run.delta for run in self.runs})
        if len(deltas) > 1:
            raise ConfigurationError(
                f"Expected delta={deltas} to be the same for all runs. Epsilon belongs to one "
                "delta. State the delta that is wanted."
            )
        return deltas[0]

    def _planned_accountant(self) -> str:
        names = {run.accountant for run in self.runs}
        return names.pop() if len(names) == 1 else Accountant.PLD

    def to_json(self) -> str:
        """Write the certificate: equal certificates give equal text.

        Returns:
            JSON with sorted keys, without spaces or line breaks, in ASCII.

        Privacy:
            Nothing, no data touched.
        """
        fields = {
            "format_version": self.format_version,
            "runs": [run.fields() for run in self.runs],
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Certificate":
        """Read what `to_json` wrote, in any layout.

        Args:
            text: JSON with exactly the known fields.

        Returns:
            A certificate equal to the one written.

        Raises:
            ConfigurationError: If the text is no JSON, a key is unknown, missing or repeated, the
                version is unknown, or a value is out of range.

        Privacy:
            Nothing, no data touched. What is not understood is refused, since it may change the
            guarantee (`test_unknown_fields_are_refused`).
        """
        try:
            fields = json.loads(text, object_pairs_hook=_without_repetition)
        except json.JSONDecodeError as error:
            raise ConfigurationError(
                f"Expected certificate to be JSON ({error}). A damaged certificate proves "
                "nothing. Take the file from the original run."
            ) from error
        require(_version_problems(fields.get("format_version") if _is_map(fields) else None))
        values = _exactly("certificate", fields, ["format_version", "runs"])
        if not isinstance(values["runs"], list):
            raise ConfigurationError(_misfit("runs", values["runs"], "a list"))
        return cls(tuple(RunRecord.from_fields(run) for run in values["runs"]))


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _misfit(field: str, value: object, rule: str) -> str:
    return (
        f"Expected {field}={value!r} to be {rule}. A certificate states one algorithm, the one "
        "that ran. Write it from the plan of the run."
    )


def _text_problems(field: str, value: object) -> list[str]:
    return [] if isinstance(value, str) and value else [_misfit(field, value, "a non-empty string")]


def _flag_problems(field: str, value: object) -> list[str]:
    return [] if isinstance(value, bool) else [_misfit(field, value, "true or false")]


def _inputs_problems(inputs: object) -> list[str]:
    if isinstance(inputs, tuple) and all(isinstance(name, str) and name for name in inputs):
        return []
    return [_misfit("inputs", inputs, "a tuple of non-empty strings")]


def _absence_problems(*, private: bool) -> list[str]:
    return [_misfit("mechanism", None, "given for a private run")] if private else []


def _version_problems(version: object) -> list[str]:
    if version == FORMAT_VERSION and not isinstance(version, bool):
        return []
    message = (
        f"Expected format_version={version!r} to be {FORMAT_VERSION}. Another version may mean "
        "another guarantee. Read it with the version of dpft that wrote it."
    )
    return [message]


def _runs_problems(runs: object) -> list[str]:
    if not isinstance(runs, tuple) or not runs or not _all_records(runs):
        return [_misfit("runs", runs, "a tuple of at least one RunRecord")]
    names = [run.run_id for run in runs]
    if len(set(names)) < len(names):
        return [_misfit("run_id", sorted(names), "without repetition")]
    return []


def _all_records(runs: Iterable[object]) -> bool:
    return all(isinstance(run, RunRecord) for run in runs)


def _exactly(what: str, fields: object, names: Iterable[str]) -> dict[str, Any]:
    known = set(names)
    if isinstance(fields, Mapping) and set(fields) == known:
        return dict(fields)
    given = sorted(fields) if isinstance(fields, Mapping) else fields
    raise ConfigurationError(
        f"Expected {what}={given!r} to have exactly the fields {sorted(known)}. A field that is "
        "not understood may change the guarantee. Read it with the version that wrote it."
    )


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ConfigurationError(_misfit("fields", names, "without repetition"))
    return fields
