"""Calibration: of noise, steps and batch size, the one that meets a target given the others.

The search (`dpft.accounting.search`) runs over integers, noise in units of 1e-4, on a coarse grid
first; the result is confirmed on the grid of reports, so what is returned always meets the target.
"""

import dataclasses
from collections.abc import Callable

from dpft.accounting.accountants import Accountant, epsilon
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.grid import CALIBRATION_GRID, DEFAULT_GRID, Grid
from dpft.accounting.mechanisms import (
    Adjacency,
    Mechanism,
    PoissonGaussian,
    UserPoissonGaussian,
)
from dpft.accounting.registry import accountant_names
from dpft.accounting.rules import (
    count_problems,
    delta_problems,
    name_problems,
    positive_problems,
    rate_problems,
    require,
)
from dpft.accounting.search import Range, Search

__all__ = [
    "PrivacyTarget",
    "calibrate",
    "calibrate_batch_size",
    "calibrate_noise_multiplier",
    "calibrate_noise_of",
    "calibrate_steps",
]

_Run = PoissonGaussian | UserPoissonGaussian
_UNITS_PER_NOISE = 10_000
_LOWEST_NOISE = 100  # 0.01: below it epsilon is beyond 1e5 in every setting of interest
_LARGEST_NOISE = 10**9  # 1e5
_LARGEST_STEPS = 10**7


@dataclasses.dataclass(frozen=True)
class PrivacyTarget:
    """The guarantee that is asked for.

    Args:
        epsilon: Finite, > 0.
        delta: In (0, 1), below 1/num_records if that is given.
        accountant: A member of `Accountant` or its value.
        adjacency: The neighbouring relation, a member of `Adjacency` or its value.
        num_records: Public number of records, or None.
        records_per_user: Largest number of records of one user, if the guarantee is to cover whole
            users; None if it covers single records.
        beside: What else is released of the same records and counts against the target, such as
            a noisy metric.

    Raises:
        ConfigurationError: If a field is out of range; all such fields are named together.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> PrivacyTarget(epsilon=3.0, delta=1e-5).accountant.value
        'pld'
    """

    epsilon: float
    delta: float
    accountant: str = Accountant.PLD
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE
    num_records: int | None = None
    records_per_user: int | None = None
    beside: tuple[Mechanism, ...] = ()

    def __post_init__(self) -> None:
        """Check every field."""
        records, group = self.num_records, self.records_per_user
        require(
            positive_problems("epsilon", self.epsilon),
            [] if records is None else count_problems("num_records", records),
            [] if group is None else count_problems("records_per_user", group),
            delta_problems(self.delta, records),
            name_problems("accountant", self.accountant, accountant_names()),
            name_problems("adjacency", self.adjacency, [member.value for member in Adjacency]),
        )
        object.__setattr__(self, "adjacency", Adjacency(self.adjacency))

    def spent(self, mechanism: Mechanism, grid: Grid = DEFAULT_GRID) -> float:
        """Return the epsilon of a mechanism and what is beside it, at this delta.

        Args:
            mechanism: What runs.
            grid: How finely to discretise.

        Returns:
            An upper bound, finite and >= 0.

        Privacy:
            Nothing, no data touched.
        """
        all_ = (mechanism, *self.beside)
        return epsilon(all_, self.delta, accountant=self.accountant, grid=grid)

    def run(self, noise_multiplier: float, sample_rate: float, steps: int) -> _Run:
        """Return a run of these numbers, stated for the unit and the relation asked for.

        Args:
            noise_multiplier: Noise std divided by the clip norm, > 0.
            sample_rate: Probability with which one record enters one step, in (0, 1].
            steps: Number of steps, >= 1.

        Returns:
            A mechanism of records, or of users if `records_per_user` is given.

        Raises:
            ConfigurationError: If a number is out of range, or users are to be replaced.

        Privacy:
            Nothing, no data touched.
        """
        if self.records_per_user is None:
            return PoissonGaussian(noise_multiplier, sample_rate, steps, self.adjacency)
        return UserPoissonGaussian(
            noise_multiplier, sample_rate, steps, self.records_per_user, self.adjacency
        )


def calibrate(target: PrivacyTarget, *, sample_rate: float, steps: int) -> _Run:
    """Return the mechanism with the least noise that meets a target.

    Args:
        target: The guarantee asked for.
        sample_rate: Probability with which one record enters one step, in (0, 1].
        steps: Number of steps, >= 1.

    Returns:
        A mechanism whose epsilon, on the grid of reports, is at most the target's. Its noise
        multiplier is a multiple of 1e-4, and at most 1e-4 above the smallest such.

    Raises:
        ConfigurationError: If a field is out of range, or no noise multiplier up to 1e5 suffices.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched (`test_calibrated_noise_meets_the_target`,
        `test_less_noise_than_calibrated_misses_the_target`).

    Example:
        >>> target = PrivacyTarget(epsilon=1.0, delta=1e-4)
        >>> calibrate(target, sample_rate=0.1, steps=300).noise_multiplier
        5.63...
    """
    require(rate_problems("sample_rate", sample_rate), count_problems("steps", steps))

    def at(point: int) -> _Run:
        return target.run(point / _UNITS_PER_NOISE, sample_rate, steps)

    points = Range(_LOWEST_NOISE, _UNITS_PER_NOISE, _LARGEST_NOISE)
    return at(_solved(target, at, Search(target.epsilon, points, safer=1)))


def calibrate_noise_of(target: PrivacyTarget, mechanism_at: Callable[[float], Mechanism]) -> float:
    """Return the smallest noise multiplier with which a mechanism of any kind meets a target.

    Args:
        target: The guarantee asked for; its unit and relation are those of the mechanism.
        mechanism_at: Makes the mechanism of a noise multiplier; more noise must not cost more.

    Returns:
        Noise std divided by the clip norm; see `calibrate` for its precision.

    Raises:
        ConfigurationError: If no noise multiplier up to 1e5 suffices, or the accountant cannot
            treat the mechanism.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched (`test_integer_noise_is_calibrated_to_its_own_bound`).
    """
    points = Range(_LOWEST_NOISE, _UNITS_PER_NOISE, _LARGEST_NOISE)
    found = _solved(
        target,
        lambda point: mechanism_at(point / _UNITS_PER_NOISE),
        Search(target.epsilon, points, safer=1),
    )
    return found / _UNITS_PER_NOISE


def calibrate_noise_multiplier(  # noqa: PLR0913  # keywords alone, named as in a configuration
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: str = Accountant.PLD,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE,
) -> float:
    """Return the smallest noise multiplier that meets a target.

    Args:
        epsilon: Target epsilon, finite, > 0.
        delta: Target delta, in (0, 1).
        sample_rate: Probability with which one record enters one step, in (0, 1].
        steps: Number of steps, >= 1.
        accountant: A member of `Accountant` or its value.
        adjacency: The neighbouring relation.

    Returns:
        Noise std divided by the clip norm; see `calibrate` for its precision.

    Raises:
        ConfigurationError: If a field is out of range, or no noise multiplier up to 1e5 suffices.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched (`test_calibrated_noise_meets_the_target`).
    """
    target = PrivacyTarget(epsilon, delta, accountant, adjacency)
    return calibrate(target, sample_rate=sample_rate, steps=steps).noise_multiplier


def calibrate_steps(target: PrivacyTarget, *, noise_multiplier: float, sample_rate: float) -> int:
    """Return the largest number of steps that meets a target.

    Args:
        target: The guarantee asked for.
        noise_multiplier: Noise std divided by the clip norm, > 0.
        sample_rate: Probability with which one record enters one step, in (0, 1].

    Returns:
        Number of steps, at most 1e7.

    Raises:
        ConfigurationError: If a field is out of range, or already one step misses the target.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched (`test_calibrated_steps_meet_the_target_and_more_do_not`).
    """
    require(
        positive_problems("noise_multiplier", noise_multiplier),
        rate_problems("sample_rate", sample_rate),
    )

    def at(point: int) -> _Run:
        return target.run(noise_multiplier, sample_rate, point)

    points = Range(1, 256, _LARGEST_STEPS)
    return _solved(target, at, Search(target.epsilon, points, safer=-1))


def calibrate_batch_size(
    target: PrivacyTarget, *, noise_multiplier: float, num_records: int, steps: int
) -> int:
    """Return the largest expected batch size that meets a target.

    Args:
        target: The guarantee asked for.
        noise_multiplier: Noise std divided by the clip norm, > 0.
        num_records: Public number of records N, >= 1.
        steps: Number of steps, >= 1, the same for every batch size.

    Returns:
        Expected batch size, in [1, N].

    Raises:
        ConfigurationError: If a field is out of range, or already a batch of one misses the target.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched (`test_calibrated_batch_size_meets_the_target_and_more_does_not`).
    """
    require(
        positive_problems("noise_multiplier", noise_multiplier),
        count_problems("num_records", num_records),
        count_problems("steps", steps),
    )

    def at(point: int) -> _Run:
        return target.run(noise_multiplier, point / num_records, steps)

    points = Range(1, max(1, num_records // 64), num_records)
    return _solved(target, at, Search(target.epsilon, points, safer=-1))


def _solved(target: PrivacyTarget, mechanism_at: Callable[[int], Mechanism], search: Search) -> int:
    """Return the outermost point that meets the target, found coarsely and confirmed finely."""
    coarse = _measured(target, mechanism_at, _coarse_grid(target))
    fine = _measured(target, mechanism_at, DEFAULT_GRID)
    found = search.outermost(coarse)
    confirmed = None if found is None else search.confirmed(found, fine)
    if confirmed is None:
        safest = mechanism_at(search.points.last if search.safer > 0 else search.points.first)
        raise ConfigurationError(
            f"Expected epsilon={target.epsilon!r} to be reachable at delta={target.delta!r}. Even "
            f"{safest!r} spends more. Raise epsilon or delta, or lower the number of steps or the "
            "sample rate."
        )
    return confirmed


def _measured(
    target: PrivacyTarget, mechanism_at: Callable[[int], Mechanism], grid: Grid
) -> Callable[[int], float]:
    return lambda point: target.spent(mechanism_at(point), grid)


def _coarse_grid(target: PrivacyTarget) -> Grid:
    """Return a grid that is fast, but never coarser than a thousandth of the target."""
    finest = DEFAULT_GRID.value_discretization_interval
    coarsest = CALIBRATION_GRID.value_discretization_interval
    interval = min(max(target.epsilon / 1000, finest), coarsest)
    return Grid(value_discretization_interval=interval)
