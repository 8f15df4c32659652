"""What a user asks for (`Privacy`) and what the run will do (`PrivacyPlan`).

Only knobs that can change the guarantee live here; what merely changes speed is in
`dpft.performance`. No torch in here: the command line plans a run without loading it.
"""

import dataclasses
import math
from collections.abc import Sequence
from enum import Enum
from typing import Annotated

from pydantic import Field

from dpft.accounting import (
    DEFAULT_GRID,
    Accountant,
    Adjacency,
    DiscreteGaussian,
    DiscreteLaplace,
    Grid,
    Mechanism,
    PoissonGaussian,
    PrivacyTarget,
    Unit,
    UserPoissonGaussian,
    calibrate,
    epsilon,
    steps_from_epochs,
)
from dpft.accounting.calibration import calibrate_noise_of
from dpft.configuration import validated
from dpft.errors import ConfigurationError

__all__ = [
    "AUTO_S_GAMMA",
    "ClippingStyle",
    "EvaluationStatus",
    "NoiseKind",
    "PlannedLength",
    "Privacy",
    "PrivacyMode",
    "PrivacyPlan",
]

_PositiveFloat = Annotated[float, Field(gt=0)]
_PositiveInt = Annotated[int, Field(ge=1)]
_NOISE_WITHOUT_PRIVACY = (
    "Expected epsilon and noise_multiplier unset with mode=not_private. A run without noise has "
    "no epsilon. Unset both, or set mode=private."
)
AUTO_S_GAMMA = 0.01  # Bu et al. 2022 (2206.07136), section 4: the stability constant they use


class PrivacyMode(str, Enum):
    """Whether the run is private. `not_private` must be asked for by name."""

    PRIVATE = "private"
    NOT_PRIVATE = "not_private"


class ClippingStyle(str, Enum):
    """How a record's gradient is bounded.

    `flat` scales by min(1, C / norm) (Abadi et al. 2016, algorithm 1); `auto_s` by
    C / (norm + 0.01) (Bu et al. 2022, 2206.07136, equation 4). Both bound every contribution by C.
    """

    FLAT = "flat"
    AUTO_S = "auto_s"


class NoiseKind(str, Enum):
    """What is added to the clipped sum.

    `gaussian`: floating-point normals. `discrete_gaussian`: the sum is rounded to a public grid and
    gets exact integer noise; sampling amplifies nothing, so that every step costs as if all records
    took part.
    """

    GAUSSIAN = "gaussian"
    DISCRETE_GAUSSIAN = "discrete_gaussian"


class EvaluationStatus(str, Enum):
    """What a metric costs: `public` data, a `noisy` release, or `none`: no metric at all."""

    PUBLIC = "public"
    NOISY = "noisy"
    NONE = "none"


@validated
class Privacy:
    """The guarantee asked for, for one run on one data set.

    Give exactly one of `epsilon` and `noise_multiplier`, and exactly one of `epochs` and `steps`.

    Args:
        delta: Target delta, in (0, 1 / num_records).
        epsilon: Target epsilon, > 0; the noise is calibrated to it.
        noise_multiplier: Noise std divided by the clip norm, > 0, no unit.
        num_records: Public number N of what is sampled: records, or users where these are sampled
            whole. Unset: the count is declared public and the neighbouring relation becomes
            zero-out.
        expected_batch_size: Public mean of the Poisson sample and divisor of the noisy sum.
        epochs: Expected passes over the data; steps = epochs x ceil(N / expected_batch_size).
        steps: Number of optimiser steps.
        clip_norm: Bound C on the l2 norm of one record's contribution, or of one user's where users
            are sampled whole.
        clipping: How the bound is enforced.
        accountant: Which accountant turns the run into epsilon.
        dataset_id: Name under which the data set appears in certificates.
        evaluation: What a metric on held-out data costs. Unset: the task decides, and own files
            get no metric.
        evaluation_epsilon: Epsilon spent on a noisy evaluation.
        evaluation_records: Public number of held-out records, by which a noisy count is divided.
            Unset: their row count is declared public; to be given wherever `num_records` is.
        evaluation_split: Public rule that keeps held-out and training records apart, as in
            "sha256(user id) mod 10 = 0". Unset: a record may be in both, and costs add up.
        unit: What the guarantee covers. Unset: the task decides, else a record. A `user` is sampled
            with all records, whose joint gradient is clipped, unless `records_per_user` is given.
        records_per_user: Public number k of records that a user has at most, with unit=user:
            records are then sampled and clipped one by one, and the noise is such that k of them
            are covered. Further records of a user are never used.
        mode: `not_private` switches clipping and noise off, and every artefact says so.
        ledger: File of the ledger that charges the run. Unset: `$DPFT_LEDGER`, else
            dpft-ledger.sqlite beside the parent of the run folder. Never changes epsilon.
        noise: What is added to the clipped sum; `discrete_gaussian` asks for `accountant=rdp`.

    Raises:
        ConfigurationError: If a field is out of range, or fields contradict each other.

    Privacy:
        Nothing, no data touched. All fields are public and fixed before training.

    References:
        Abadi et al. 2016 (1607.00133), algorithm 1; Mironov et al. 2019 (1908.10530).
    """

    delta: Annotated[float, Field(gt=0, lt=1)]
    epsilon: _PositiveFloat | None = None
    noise_multiplier: _PositiveFloat | None = None
    num_records: _PositiveInt | None = None
    expected_batch_size: _PositiveInt = 1024
    epochs: _PositiveInt | None = None
    steps: _PositiveInt | None = None
    clip_norm: _PositiveFloat = 1.0
    clipping: ClippingStyle = ClippingStyle.AUTO_S
    accountant: Accountant = Accountant.PLD
    dataset_id: str = "unnamed"
    evaluation: EvaluationStatus | None = None
    evaluation_epsilon: _PositiveFloat | None = None
    evaluation_records: _PositiveInt | None = None
    evaluation_split: Annotated[str, Field(min_length=1)] | None = None
    unit: Unit | None = None
    records_per_user: _PositiveInt | None = None
    mode: PrivacyMode = PrivacyMode.PRIVATE
    ledger: str | None = None
    noise: NoiseKind = NoiseKind.GAUSSIAN

    def __post_init__(self) -> None:
        """Check the rules that span several fields, and report all that are broken at once."""
        problems = [
            *self._noise_problems(),
            *self._length_problems(),
            *self._evaluation_problems(),
            *self._unit_problems(),
            *self._grid_problems(),
        ]
        if problems:
            raise ConfigurationError(problems)

    @property
    def covers(self) -> Unit:
        """What the guarantee covers: a record unless somebody said otherwise."""
        return self.unit or Unit.RECORD

    @property
    def samples_users(self) -> bool:
        """Whether users are sampled and clipped whole, with all their records."""
        return self.covers is Unit.USER and self.records_per_user is None

    def _unit_problems(self) -> list[str]:
        problems = []
        if self.records_per_user is not None and self.covers is not Unit.USER:
            problems.append(
                f"Expected records_per_user={self.records_per_user} with unit=user alone. A record "
                "is a record, whoever owns it. Set unit=user, or unset records_per_user."
            )
        if self.covers is Unit.USER and self.evaluation is EvaluationStatus.NOISY:
            problems.append(
                "Expected evaluation=public or none with unit=user, not noisy. Its noise covers "
                "one held-out record, and a user may have several. Set evaluation=none."
            )
        return problems

    def _grid_problems(self) -> list[str]:
        if self.noise is NoiseKind.GAUSSIAN:
            return []
        problems = []
        if self.accountant is not Accountant.RDP:
            problems.append(
                f"Expected accountant={self.accountant.value} to be rdp with "
                f"noise={self.noise.value}. No other has a bound for integer noise in many "
                "dimensions. Set accountant to rdp."
            )
        if self.records_per_user is not None:
            problems.append(
                f"Expected records_per_user={self.records_per_user} to be unset with "
                f"noise={self.noise.value}. Its cost is known for one contribution to a sum. Unset "
                "records_per_user, which samples users whole."
            )
        return problems

    def _noise_problems(self) -> list[str]:
        given = (self.epsilon is not None) + (self.noise_multiplier is not None)
        if self.mode is PrivacyMode.NOT_PRIVATE:
            if given:
                return [_NOISE_WITHOUT_PRIVACY]
            return []
        if given != 1:
            message = (
                f"Expected exactly one of epsilon={self.epsilon} and "
                f"noise_multiplier={self.noise_multiplier} to be given. One fixes the other. "
                "Set one and leave the other unset."
            )
            return [message]
        return []

    def _length_problems(self) -> list[str]:
        if (self.epochs is None) == (self.steps is None):
            message = (
                f"Expected exactly one of epochs={self.epochs} and steps={self.steps} to be given. "
                "The number of steps is decided once. Set one and leave the other unset."
            )
            return [message]
        return []

    def _evaluation_problems(self) -> list[str]:
        noisy = self.evaluation is EvaluationStatus.NOISY
        if noisy != (self.evaluation_epsilon is not None):
            message = (
                f"Expected evaluation_epsilon={self.evaluation_epsilon} to be given exactly with "
                "evaluation=noisy. A noisy metric is charged its own epsilon. Set both or neither."
            )
            return [message]
        return self._held_out_problems(noisy=noisy)

    def _held_out_problems(self, *, noisy: bool) -> list[str]:
        problems = [
            f"Expected {name}={value} to be given with evaluation=noisy alone. Nothing else is "
            f"charged for held-out records. Unset {name}."
            for name, value in (
                ("evaluation_records", self.evaluation_records),
                ("evaluation_split", self.evaluation_split),
            )
            if value is not None and not noisy
        ]
        if noisy and self.num_records is not None and self.evaluation_records is None:
            problems.append(
                f"Expected evaluation_records to be given with num_records={self.num_records} and "
                "evaluation=noisy. A metric divided by the row count would tell it, and the "
                "guarantee counts a record more or less. State the number of held-out records."
            )
        held_out = self.evaluation_records
        if held_out is not None and self.delta >= 1 / held_out:
            problems.append(
                f"Expected delta={self.delta:g} < 1/evaluation_records={1 / held_out:.3g}. "
                "Held-out records are promised as much as training records, and a larger delta "
                f"allows whole ones to leak. Set delta to at most {0.1 / held_out:.1g}."
            )
        target, price = self.epsilon, self.evaluation_epsilon
        if self.evaluation_split and target is not None and price is not None and price > target:
            problems.append(
                f"Expected evaluation_epsilon={price} <= epsilon={target}. Held-out records are "
                "promised as much as training records. Lower evaluation_epsilon."
            )
        return problems

    def metric(self, adjacency: Adjacency) -> DiscreteLaplace | None:
        """Return what a metric on held-out records releases of them.

        Args:
            adjacency: The neighbouring relation of the run.

        Returns:
            One noisy count of the records predicted rightly; None if nothing is charged.

        Privacy:
            Under either relation one held-out record moves the count by at most 1
            (`test_one_held_out_record_moves_the_count_by_at_most_one`); its divisor is public.
        """
        if self.evaluation is not EvaluationStatus.NOISY:
            return None
        assert self.evaluation_epsilon is not None, "checked on construction"
        return DiscreteLaplace(decay=self.evaluation_epsilon, adjacency=adjacency)

    def plan(self, row_count: int) -> "PrivacyPlan":
        """Fix every public number of the run, before any data or model is touched.

        Args:
            row_count: Number of rows in the training data, or of users where these are sampled
                whole; used only if `num_records` is unset.

        Returns:
            The plan, with the calibrated noise multiplier.

        Raises:
            ConfigurationError: If delta, batch size and number of records do not fit together.

        Privacy:
            A stated N is never compared with the row count. Without one, the row count becomes
            public and the neighbouring relation is zero-out (`tests/dpft/test_privacy.py`).
        """
        stated = self.num_records is not None
        num_records = self.num_records if self.num_records is not None else row_count
        self._check_against(num_records)
        length = PlannedLength(
            num_records=num_records,
            expected_batch_size=self.expected_batch_size,
            steps=self.steps
            or steps_from_epochs(self.epochs or 1, num_records, self.expected_batch_size),
            adjacency=Adjacency.ADD_OR_REMOVE if stated else Adjacency.ZERO_OUT,
        )
        return PrivacyPlan(privacy=self, length=length, noise_multiplier=self._noise_for(length))

    def _check_against(self, num_records: int) -> None:
        problems = []
        if num_records < 1:
            problems.append(
                f"Expected num_records={num_records} >= 1. There is nothing to train on. "
                "Give a data set with at least one record."
            )
        elif self.delta >= 1 / num_records:
            problems.append(
                f"Expected delta={self.delta:g} < 1/num_records={1 / num_records:.3g}. A larger "
                "delta allows whole records to leak. Set privacy.delta to at most "
                f"{0.1 / num_records:.1g}."
            )
        if self.expected_batch_size > num_records >= 1:
            problems.append(
                f"Expected expected_batch_size={self.expected_batch_size} <= "
                f"num_records={num_records}. The sample rate is their ratio. Lower "
                "privacy.expected_batch_size."
            )
        if problems:
            raise ConfigurationError(problems)

    def _noise_for(self, length: "PlannedLength") -> float:
        if self.mode is PrivacyMode.NOT_PRIVATE:
            return 0.0
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        if self.epsilon is None:  # unreachable: __post_init__ asks for one of the two
            raise ConfigurationError("Expected epsilon to be given. Set privacy.epsilon.")
        metric = None if self.evaluation_split else self.metric(length.adjacency)
        target = PrivacyTarget(
            epsilon=self.epsilon,
            delta=self.delta,
            accountant=self.accountant,
            adjacency=length.adjacency,
            records_per_user=self.records_per_user,
            beside=() if metric is None else (metric,),
        )
        if self.noise is NoiseKind.DISCRETE_GAUSSIAN:
            return calibrate_noise_of(target, lambda noise: self.on_grid(noise, length))
        run = calibrate(target, sample_rate=length.sample_rate, steps=length.steps)
        return run.noise_multiplier

    def on_grid(self, noise_multiplier: float, length: "PlannedLength") -> DiscreteGaussian:
        """Return a run of this guarantee with integer noise.

        Args:
            noise_multiplier: Noise std divided by the clip norm, > 0.
            length: Steps and relation.

        Privacy:
            Nothing, no data touched.
        """
        return DiscreteGaussian(
            noise_multiplier, length.steps, unit=self.covers, adjacency=length.adjacency
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedLength:
    """How long a run is and how it samples: public integers, decided once.

    Args:
        num_records: Public number N of records, or of users where these are sampled whole, >= 1.
        expected_batch_size: Mean of the Poisson sample, in [1, N].
        steps: Number of optimiser steps, >= 1.
        adjacency: Neighbouring relation the numbers are meant for.

    Privacy:
        Nothing, no data touched.
    """

    num_records: int
    expected_batch_size: int
    steps: int
    adjacency: Adjacency

    @property
    def sample_rate(self) -> float:
        """Probability with which each record enters a step: expected_batch_size / num_records."""
        return self.expected_batch_size / self.num_records


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """The algorithm that will run, in public numbers only.

    Args:
        privacy: What was asked for.
        length: Steps and sampling.
        noise_multiplier: Noise std divided by the clip norm; 0 only for a run that is not private.

    Privacy:
        Nothing, no data touched. `mechanism` is what the sampler and the noise carry out, so the
        epsilon computed from it belongs to the algorithm that ran.
    """

    privacy: Privacy
    length: PlannedLength
    noise_multiplier: float

    @property
    def is_private(self) -> bool:
        """Whether gradients are clipped and noised."""
        return self.privacy.mode is PrivacyMode.PRIVATE

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on the clipped sum, in units of the gradient."""
        return self.noise_multiplier * self.privacy.clip_norm

    @property
    def discrete(self) -> DiscreteGaussian:
        """The whole run with integer noise.

        Raises:
            ConfigurationError: If the noise is another one.
        """
        if self.privacy.noise is not NoiseKind.DISCRETE_GAUSSIAN:
            raise ConfigurationError(
                f"Expected noise={self.privacy.noise.value} to be discrete_gaussian. Other noise "
                "has no grid. Ask for `mechanism`."
            )
        return self.privacy.on_grid(self.noise_multiplier, self.length)

    @property
    def granularity(self) -> float:
        """One step of the grid of integer noise, in units of the gradient."""
        return self.noise_std / self.discrete.grid_std

    def mechanism(
        self, steps: int | None = None
    ) -> PoissonGaussian | UserPoissonGaussian | DiscreteGaussian:
        """Return the mechanism of the first `steps` steps (default: all planned ones)."""
        noise, rate, adjacency = (
            self.noise_multiplier,
            self.length.sample_rate,
            self.length.adjacency,
        )
        count = self.length.steps if steps is None else steps
        if self.privacy.noise is NoiseKind.DISCRETE_GAUSSIAN:
            return dataclasses.replace(self.discrete, steps=count)
        most = self.privacy.records_per_user
        if most is not None:
            return UserPoissonGaussian(noise, rate, count, most, adjacency)
        return PoissonGaussian(noise, rate, count, adjacency, unit=self.privacy.covers)

    def epsilon(self, steps: int | None = None, *, grid: Grid = DEFAULT_GRID) -> float:
        """Return epsilon at the plan's delta after `steps` steps (default: all planned ones).

        A noisy metric is counted from the start: with the steps, or, if a public rule keeps its
        records apart, where it costs them more. A coarser grid is quicker and never gives a
        smaller value.
        """
        if not self.is_private:
            return math.inf
        metric = self.privacy.metric(self.length.adjacency)
        trained = [] if steps == 0 else [self.mechanism(steps)]
        if metric is None:
            return self._spent(trained, grid)
        if self.privacy.evaluation_split is None:
            return self._spent([*trained, metric], grid)
        return max(self._spent(trained, grid), self._spent([metric], grid))

    def _spent(self, mechanisms: Sequence[Mechanism], grid: Grid) -> float:
        if not mechanisms:
            return 0.0
        delta, accountant = self.privacy.delta, self.privacy.accountant
        return epsilon(mechanisms, delta, accountant=accountant, grid=grid)
