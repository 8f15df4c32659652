"""What a plan is asked to meet. Public numbers only; no torch in here."""

import dataclasses
import math

from dpft.accounting.rules import count_problems, delta_problems, positive_problems, require

__all__ = ["LARGEST_DELTA", "Demand", "delta_for"]

LARGEST_DELTA = 1e-5
_OPTIONAL = ("hours", "records_per_second", "memory_gib")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demand:
    """Data, guarantee and hardware.

    Args:
        num_records: Public number of records N, >= 1.
        epsilon: Target, finite, > 0.
        delta: In (0, 1/N). Unset: by `delta_for`.
        parameters: Number of the base model's weights, >= 1. Unset: that of RoBERTa-base.
        hours: Time for training, > 0. Unset: not limited. Given with `records_per_second`.
        records_per_second: Speed of training, > 0.
        memory_gib: Memory for the model and one physical batch, in GiB, > 0. Unset: not looked at.

    Raises:
        ConfigurationError: If a value is out of range; all such values are named together.

    Privacy:
        Nothing, no data touched.
    """

    num_records: int
    epsilon: float
    delta: float | None = None
    parameters: int | None = None
    hours: float | None = None
    records_per_second: float | None = None
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        given = {name: getattr(self, name) for name in _OPTIONAL}
        require(
            count_problems("num_records", self.num_records),
            positive_problems("epsilon", self.epsilon),
            [] if self.delta is None else delta_problems(self.delta, _counted(self.num_records)),
            [] if self.parameters is None else count_problems("parameters", self.parameters),
            *(positive_problems(name, value) for name, value in given.items() if value is not None),
            self._speed_problems(),
        )

    @property
    def chosen_delta(self) -> float:
        """Delta as given, else by `delta_for`."""
        return delta_for(self.num_records) if self.delta is None else self.delta

    def _speed_problems(self) -> list[str]:
        if self.hours is None or self.records_per_second is not None:
            return []
        said = (
            f"Expected records_per_second to be given with hours={self.hours}. How much fits in a "
            "time depends on the machine and is never guessed. Add --records-per-second R: run "
            "dpft train with privacy.steps=5 and read examples_per_second in metrics.json."
        )
        return [said]


def delta_for(num_records: int) -> float:
    """Return 1/(10 N), rounded down to one digit, and at most 1e-5.

    Args:
        num_records: Public number of records N, >= 1.

    Returns:
        A delta below 1/N for every N.

    Privacy:
        Nothing, no data touched (`test_the_default_delta_is_below_one_over_n`).

    Example:
        >>> delta_for(67_349), delta_for(1_000_000)
        (1e-06, 1e-07)
    """
    wanted = min(LARGEST_DELTA, 0.1 / num_records)
    power = math.floor(math.log10(wanted))
    # read from text, since 3 * 10**-7 is not the number that 3e-7 is read as
    return min(LARGEST_DELTA, float(f"{math.floor(wanted / 10**power * (1 + 1e-9))}e{power}"))


def _counted(num_records: object) -> int | None:
    return num_records if isinstance(num_records, int) and num_records >= 1 else None
