"""Private selection: how many trials there are, and how much noise one of them needs.

A random number K of trials is run, each on a candidate drawn at random, and the best is released.
What that costs is computed from a `RepeatAndSelect`. The bound needs K to follow its distribution
and to stay secret, hence every draw here is exact arithmetic on integers and fractions, from the
operating system's randomness.
"""

import dataclasses
import itertools
import math
import secrets
from collections.abc import Callable
from fractions import Fraction

from dpft.accounting.calibration import PrivacyTarget
from dpft.accounting.errors import ConfigurationError
from dpft.accounting.mechanisms import POISSON, Mechanism, RepeatAndSelect
from dpft.accounting.rules import require
from dpft.accounting.search import Range, Search

__all__ = ["TrialCount", "calibrate_trial"]

_RandBelow = Callable[[int], int]
_LARGEST_MEAN = 1e6  # nobody waits for more trials
_LARGEST_SHAPE = 100.0  # long before it, Poisson's distribution is as narrow and costs less
_LOGARITHMIC_SHAPE = 1e-14  # below it quotients lose their digits, and the limit has all of them
_LARGEST_LOG = 50.0  # of 1 / gamma: the mean is then beyond the largest one for every shape
_HALVINGS = 100  # of that interval: below the resolution of a float
_SLACK = 1e-9  # relative, of gamma: the tolerance of dp-accounting's own search for it
_UNITS_PER_NOISE = 10_000
_NOISE = Range(first=100, start=_UNITS_PER_NOISE, last=10**9)


@dataclasses.dataclass(frozen=True)
class TrialCount:
    r"""The distribution of the number of trials K.

    With a number :math:`\eta` for shape it is the truncated negative binomial on 1, 2, ...,
    :math:`P(k) \propto (1-\gamma)^k \, \Gamma(k+\eta) / k!`: logarithmic for :math:`\eta = 0`,
    geometric for :math:`\eta = 1`. Poisson's may give no trial at all.

    Args:
        mean: Expected number of trials, in [1, 1e6], no unit.
        shape: The shape :math:`\eta` in [0, 100], or ``poisson``. Unset: logarithmic, which for
            the same mean costs least and still finds as good a candidate as the geometric one,
            but varies most.

    Raises:
        ConfigurationError: If a field is out of range.

    Privacy:
        Nothing, no data touched. `draw` follows the distribution exactly
        (`test_frequencies_follow_the_distribution`), and what is drawn never costs more than what
        is accounted (`test_what_is_drawn_stops_no_later_than_what_is_accounted`).

    References:
        Papernot and Steinke 2021 (2110.03620), definition 1 and theorem 6.

    Example:
        >>> TrialCount(10).quantile(0.99), TrialCount(10, shape=1).quantile(0.99)
        (81, 44)
    """

    mean: float
    shape: float | str = 0.0

    def __post_init__(self) -> None:
        """Check the fields, then store floats, so that equal values are written alike."""
        require(_mean_problems(self.mean), _shape_problems(self.shape))
        object.__setattr__(self, "mean", float(self.mean))
        if self.shape != POISSON:
            object.__setattr__(self, "shape", float(self.shape))

    @property
    def may_be_zero(self) -> bool:
        """Whether there may be no trial, and then no model."""
        return self.shape == POISSON

    def event(self, trial: Mechanism) -> RepeatAndSelect:
        """Return the mechanism of the whole selection.

        Args:
            trial: Everything that one trial does with the data set, its score included.

        Returns:
            What a certificate and a ledger charge.

        Privacy:
            Nothing, no data touched.
        """
        return RepeatAndSelect(trial, self.mean, self.shape, trial.adjacency)

    def draw(self, randbelow: _RandBelow = secrets.randbelow) -> int:
        """Draw the number of trials.

        Args:
            randbelow: Uniform integer below its argument; replaced only by tests.

        Returns:
            The number, >= 1, or >= 0 if Poisson's. It must stay secret.

        Privacy:
            Exact: only integers are drawn (`test_frequencies_follow_the_distribution`).
        """
        if isinstance(self.shape, str):
            return _poisson(Fraction(self.mean), randbelow)
        return _truncated(Fraction(self.shape), Fraction(self._gamma(self.shape)), randbelow)

    def probability(self, count: int) -> float:
        """Return the probability of a number of trials (>= 0).

        Privacy:
            Nothing, no data touched: the distribution is public, the number drawn is not.
        """
        if isinstance(self.shape, str):
            log = count * math.log(self.mean) - self.mean - math.lgamma(count + 1)
            return math.exp(log)
        if count < 1 or self.mean == 1.0:
            return float(count == self.mean)
        gamma = self._gamma(self.shape)
        logs = (count * math.log1p(-gamma), math.lgamma(count + self.shape))
        log = sum(logs) - math.lgamma(1 + self.shape) - math.lgamma(count + 1)
        return math.exp(log) / _total(gamma, self.shape)

    def quantile(self, probability: float) -> int:
        """Return the least number of trials that is not exceeded with a probability in (0, 1).

        Privacy:
            Nothing, no data touched: it tells how long a selection may take.
        """
        reached = 0.0
        for count in itertools.count():
            reached += self.probability(count)
            if reached >= probability:
                break
        return count

    def _gamma(self, shape: float) -> float:
        """Return gamma, rounded up: a larger one means fewer trials and a smaller cost."""
        low, high = 0.0, _LARGEST_LOG
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = _mean_at(middle, shape) <= self.mean
            low, high = (middle, high) if fits else (low, middle)
        return min(1.0, math.exp(-low) * (1 + _SLACK))


def calibrate_trial(
    target: PrivacyTarget, count: TrialCount, trial_at: Callable[[float], Mechanism]
) -> float:
    """Return the smallest noise multiplier of a trial with which the selection meets a target.

    Args:
        target: The guarantee asked for, of all trials and the choice together; its accountant is
            ``rdp``, the only one that bounds a selection.
        count: The distribution of the number of trials.
        trial_at: Everything one trial does with the data set, given its noise multiplier.

    Returns:
        Noise std divided by the clip norm, a multiple of 1e-4.

    Raises:
        ConfigurationError: If the accountant is another one, or no noise multiplier up to 1e5
            suffices: what the score costs may be too much by itself.

    Privacy:
        Nothing, no data touched (`test_a_calibrated_selection_meets_its_target`).
    """

    def spent(point: int) -> float:
        return target.spent(count.event(trial_at(point / _UNITS_PER_NOISE)))

    found = Search(target.epsilon, _NOISE, safer=1).outermost(spent)
    if found is None:
        raise ConfigurationError(
            f"Expected epsilon={target.epsilon!r} to be reachable at delta={target.delta!r} by "
            f"selection from {count.mean:g} trials. Even without a trace of the gradients it is "
            "more. Raise epsilon, expect fewer trials, or spend less on a private score."
        )
    return found.point / _UNITS_PER_NOISE


def _mean_problems(mean: object) -> list[str]:
    if isinstance(mean, int | float) and not isinstance(mean, bool) and 1 <= mean <= _LARGEST_MEAN:
        return []
    message = (
        f"Expected mean={mean!r} of the number of trials in [1, {_LARGEST_MEAN:g}]. The bound "
        "holds for such means alone. Set it to the number of trials that you can afford."
    )
    return [message]


def _shape_problems(shape: object) -> list[str]:
    number = isinstance(shape, int | float) and not isinstance(shape, bool)
    if shape == POISSON or (number and 0 <= float(shape) <= _LARGEST_SHAPE):  # type: ignore[arg-type]
        return []
    message = (
        f"Expected shape={shape!r} to be a number in [0, {_LARGEST_SHAPE:g}] or {POISSON!r}. It "
        "names the distribution of the number of trials. Set 0 for the logarithmic, 1 for the "
        "geometric distribution."
    )
    return [message]


def _mean_at(log_inverse_gamma: float, shape: float) -> float:
    """Return the mean for log(1 / gamma) > 0, without the loss of digits near 1."""
    if shape < _LOGARITHMIC_SHAPE:
        return math.expm1(log_inverse_gamma) / log_inverse_gamma
    return shape * math.expm1(log_inverse_gamma) / -math.expm1(-shape * log_inverse_gamma)


def _total(gamma: float, shape: float) -> float:
    r"""Return the sum of (1-gamma)^k Gamma(k+shape) / (Gamma(1+shape) k!) over k >= 1."""
    log = -math.log(gamma)
    return log if shape < _LOGARITHMIC_SHAPE else math.expm1(shape * log) / shape


def _truncated(shape: Fraction, gamma: Fraction, randbelow: _RandBelow) -> int:
    """Draw from the truncated negative binomial distribution."""
    if shape <= 1 or gamma == 1:
        return _thinned_geometric(min(shape, Fraction(1)), gamma, 1, randbelow)
    whole, rest = divmod(shape, 1)
    parts = [Fraction(1)] * int(whole) + [rest] * bool(rest)
    count = 0
    while not count:  # a sum of independent counts, shape by shape, is one of the summed shape
        count = sum(_thinned_geometric(part, gamma, 0, randbelow) for part in parts)
    return count


def _thinned_geometric(shape: Fraction, gamma: Fraction, first: int, randbelow: _RandBelow) -> int:
    """Draw k >= first with P(k) ~ (1-gamma)^k Gamma(k+shape) / k!, for a shape of at most 1.

    A geometric count is kept with probability (first+shape)/(first+1) ... (k-1+shape)/k, whose
    factors are tossed for one by one.
    """
    count = first
    while not _coin(gamma, randbelow):
        kept = _coin((count + shape) / (count + 1), randbelow)
        count = count + 1 if kept else first
    return count


def _poisson(mean: Fraction, randbelow: _RandBelow) -> int:
    """Draw from Poisson's distribution: a sum of as many as needed with a mean of at most 1."""
    parts = math.ceil(mean)
    return sum(_poisson_below_one(mean / parts, randbelow) for _ in range(parts))


def _poisson_below_one(mean: Fraction, randbelow: _RandBelow) -> int:
    """Draw a count k with P(k) = 2^-(k+1) and keep it with probability (2 mean)^k / (2 k!) <= 1."""
    while True:
        count = 0
        while _coin(Fraction(1, 2), randbelow):
            count += 1
        if _coin((2 * mean) ** count / (2 * math.factorial(count)), randbelow):
            return count


def _coin(probability: Fraction, randbelow: _RandBelow) -> bool:
    return randbelow(probability.denominator) < probability.numerator
