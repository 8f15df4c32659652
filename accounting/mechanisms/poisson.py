"""Gaussian noise on Poisson samples: of records, truncated, and of users with several records."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from dpft.accounting.mechanisms.adjacency import Adjacency, Unit
from dpft.accounting.mechanisms.fields import (
    fields_as_json,
    narrowed_adjacency_problems,
    settle,
)
from dpft.accounting.rules import (
    count_problems,
    effort_problems,
    name_problems,
    positive_problems,
    rate_problems,
)

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = [
    "PoissonGaussian",
    "TruncatedPoissonGaussian",
    "UserPoissonGaussian",
]

_MOST_RECORDS_OF_A_USER = 10_000  # each is a shift of the noise, and costs time and memory


@dataclasses.dataclass(frozen=True)
class PoissonGaussian:
    r"""A sum of clipped records under Gaussian noise, repeated on independent Poisson samples.

    Each step releases :math:`\sum_{b \in S} g_b + N(0, \sigma^2 C^2 I)`, where every record is in
    S with probability q, independently, and :math:`|g_b| \le C`.

    Args:
        noise_multiplier: Noise std divided by the clip norm C, > 0 and finite, no unit. The same
            ratio under every adjacency; the accountant knows that replace-one moves the sum by 2C.
        sample_rate: Probability q with which one record enters one step, in (0, 1].
        steps: Number of steps, an integer >= 1.
        unit: What is sampled and clipped: a record, or a user with all of that user's records. By
            keyword alone.
        adjacency: The neighbouring relation, a member of `Adjacency` or its value.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One record (or one user, whose records' joint gradient is clipped to C) moves the clipped
        sum of a step by at most C (by 2C under replace-one). Every step's noisy sum is released.
        Assumed are Poisson sampling of these units and exact real-valued Gaussian noise
        (`test_one_step_agrees_with_the_closed_form_of_the_sampled_gaussian`,
        `test_replace_one_without_sampling_equals_half_the_noise`).

    References:
        Abadi et al. 2016 (1607.00133), algorithm 1.

    Example:
        >>> PoissonGaussian(0.6, 1024 / 67_349, 660).adjacency.value
        'add_or_remove'
    """

    kind: ClassVar[str] = "poisson_gaussian"

    noise_multiplier: float
    sample_rate: float
    steps: int
    unit: Unit = dataclasses.field(default=Unit.RECORD, kw_only=True)
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            positive_problems("noise_multiplier", self.noise_multiplier),
            rate_problems("sample_rate", self.sample_rate),
            count_problems("steps", self.steps),
            name_problems("unit", self.unit, [member.value for member in Unit]),
        )
        object.__setattr__(self, "unit", Unit(self.unit))

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of a Poisson-sampled Gaussian; of the plain Gaussian if every record
            takes part, because that one has a closed form.

        Privacy:
            Nothing, no data touched.
        """
        import dp_accounting

        once = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        if self.sample_rate < 1.0:
            once = dp_accounting.PoissonSampledDpEvent(self.sample_rate, once)
        return dp_accounting.SelfComposedDpEvent(once, self.steps)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field; ``unit`` is left out where it is
            a record, so that digests of certificates stay what they were without this field.

        Privacy:
            Nothing, no data touched.
        """
        fields = fields_as_json(self)
        if self.unit is Unit.RECORD:
            del fields["unit"]
        return fields


@dataclasses.dataclass(frozen=True)
class TruncatedPoissonGaussian:
    """`PoissonGaussian` whose samples are cut to a largest size by leaving out records at random.

    Args:
        noise_multiplier: Noise std divided by the clip norm C, > 0 and finite, no unit.
        sample_rate: Probability with which one record enters one sample before the cut, in (0, 1].
        steps: Number of steps, an integer >= 1.
        num_records: Public number of records N, an integer >= 1.
        largest_batch: Largest size of a sample after the cut, an integer >= 1. At the mean of the
            sample or below, the cost is several times that of `PoissonGaussian`; six standard
            deviations above the mean it is the same.
        adjacency: `zero_out` or `replace_one`. Not `add_or_remove`: whether a sample is cut
            depends on N, so N must be public.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        In a step that is cut one record moves the sum by up to 2C, because another takes its
        place. Every step's noisy sum is released
        (`test_truncated_batches_agree_with_the_published_table`).

    References:
        Ganesh et al. 2025 (2508.15089).
    """

    kind: ClassVar[str] = "truncated_poisson_gaussian"

    noise_multiplier: float
    sample_rate: float
    steps: int
    num_records: int
    largest_batch: int
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            positive_problems("noise_multiplier", self.noise_multiplier),
            rate_problems("sample_rate", self.sample_rate),
            count_problems("steps", self.steps),
            count_problems("num_records", self.num_records),
            count_problems("largest_batch", self.largest_batch),
            narrowed_adjacency_problems(
                self.adjacency,
                (Adjacency.ZERO_OUT, Adjacency.REPLACE_ONE),
                "How often a sample is cut depends on the number of records, which must be public.",
            ),
        )

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of its truncated, sampled Gaussian.

        Privacy:
            Nothing, no data touched.
        """
        from dp_accounting import SelfComposedDpEvent
        from dp_accounting.dp_event import TruncatedSubsampledGaussianDpEvent

        once = TruncatedSubsampledGaussianDpEvent(
            dataset_size=self.num_records,
            sampling_probability=self.sample_rate,
            truncated_batch_size=self.largest_batch,
            noise_multiplier=self.noise_multiplier,
        )
        return SelfComposedDpEvent(once, self.steps)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)


@dataclasses.dataclass(frozen=True)
class UserPoissonGaussian:
    """`PoissonGaussian`, as seen by a user who contributed several records.

    Records are sampled one by one; of a user's k records Binomial(k, q) enter a step, each of
    which moves the sum by at most C.

    Args:
        noise_multiplier: Noise std divided by the clip norm C of one record, > 0, no unit.
        sample_rate: Probability with which one record enters one step, in (0, 1].
        steps: Number of steps, an integer >= 1.
        records_per_user: Largest number k of records of one user, an integer in [1, 10000];
            whoever states it must enforce it.
        adjacency: `add_or_remove` or `zero_out`, of one whole user.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        One user moves the sum of a step by at most C times a Binomial(k, q) number. Exact for
        the worst case, in which all k gradients point the same way
        (`test_one_record_per_user_costs_what_the_record_costs`,
        `test_users_agree_with_the_published_table`).

    References:
        Choquette-Choo et al. 2023 (2310.15526), corollary 4.7.
    """

    kind: ClassVar[str] = "user_poisson_gaussian"

    noise_multiplier: float
    sample_rate: float
    steps: int
    records_per_user: int
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE

    def __post_init__(self) -> None:
        """Check every field."""
        settle(
            self,
            positive_problems("noise_multiplier", self.noise_multiplier),
            rate_problems("sample_rate", self.sample_rate),
            count_problems("steps", self.steps),
            count_problems("records_per_user", self.records_per_user),
            effort_problems("records_per_user", self.records_per_user, _MOST_RECORDS_OF_A_USER),
            narrowed_adjacency_problems(
                self.adjacency,
                (Adjacency.ADD_OR_REMOVE, Adjacency.ZERO_OUT),
                "No exact bound is known here for exchanging one user for another.",
            ),
        )

    def event(self) -> "DpEvent":
        """Return the mechanism as an event of dp-accounting.

        Returns:
            Self-composition of a mixture of Gaussians with binomial weights.

        Privacy:
            Nothing, no data touched.
        """
        from dp_accounting import SelfComposedDpEvent
        from dp_accounting.dp_event import MixtureOfGaussiansDpEvent
        from scipy.stats import binom

        records = range(self.records_per_user + 1)
        weights = [float(binom.pmf(k, self.records_per_user, self.sample_rate)) for k in records]
        once = MixtureOfGaussiansDpEvent(
            self.noise_multiplier, [float(count) for count in records], weights
        )
        return SelfComposedDpEvent(once, self.steps)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without loss.

        Returns:
            A mapping with the key ``kind`` and one key per field.

        Privacy:
            Nothing, no data touched.
        """
        return fields_as_json(self)
