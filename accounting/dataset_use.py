"""Which data set a run touched, which part of it, and at which rate it was sampled."""

import dataclasses

from dpft.accounting.canonical_json import exactly, misfit, text_problems
from dpft.accounting.rules import count_problems, rate_problems, require

__all__ = ["DatasetUse", "Partition", "partition_problems"]


@dataclasses.dataclass(frozen=True)
class Partition:
    """One part of a data set that was cut by a public rule.

    Two runs on the same data set under the same rule and different parts share no unit of privacy.

    Args:
        rule: The rule in words, such as ``sha256(user id) mod 4``. It must put every unit in one
            part by what is fixed about it, and must not have been chosen by looking at records.
        part: Name of the part, such as ``0``.

    Raises:
        ConfigurationError: If a field is empty.

    Privacy:
        Nothing, no data touched. Nobody can verify the rule from a certificate: it is a statement
        by whoever publishes it.
    """

    rule: str
    part: str

    def __post_init__(self) -> None:
        """Check both fields."""
        require(
            text_problems("partition.rule", self.rule), text_problems("partition.part", self.part)
        )

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values.

        Privacy:
            Nothing, no data touched.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, fields: object) -> "Partition":
        """Read what `fields` returned.

        Args:
            fields: Exactly its keys.

        Raises:
            ConfigurationError: If a key is unknown or missing, or a value is out of range.

        Privacy:
            Nothing, no data touched.
        """
        return cls(**exactly("partition", fields, ["rule", "part"]))


@dataclasses.dataclass(frozen=True)
class DatasetUse:
    """One data set that a run samples, where it samples several.

    Args:
        dataset_id: Name the user gave to the data set.
        num_records: Public number of its records, or None if it is not public.
        sample_rate: Probability with which one of its records enters one step, in (0, 1]; None
            where nothing is sampled.
        partition: The part that was used, or None for all of it.

    Raises:
        ConfigurationError: If a field is out of range.

    Privacy:
        Nothing, no data touched.
    """

    dataset_id: str
    num_records: int | None = None
    sample_rate: float | None = None
    partition: Partition | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        require(
            text_problems("dataset_id", self.dataset_id),
            [] if self.num_records is None else count_problems("num_records", self.num_records),
            [] if self.sample_rate is None else rate_problems("sample_rate", self.sample_rate),
            partition_problems(self.partition),
        )

    def fields(self) -> dict[str, object]:
        """Return the fields as JSON values.

        Privacy:
            Nothing, no data touched.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, fields: object) -> "DatasetUse":
        """Read what `fields` returned.

        Args:
            fields: Exactly its keys.

        Raises:
            ConfigurationError: If a key is unknown or missing, or a value is out of range.

        Privacy:
            Nothing, no data touched.
        """
        values = exactly("uses", fields, [field.name for field in dataclasses.fields(cls)])
        if values["partition"] is not None:
            values["partition"] = Partition.from_fields(values["partition"])
        return cls(**values)


def partition_problems(partition: object) -> list[str]:
    """Check that a partition is one, or None.

    Args:
        partition: What was given.

    Returns:
        Messages, empty if the value obeys.

    Privacy:
        Nothing, no data touched.
    """
    if partition is None or isinstance(partition, Partition):
        return []
    return [misfit("partition", partition, "a Partition or None")]
