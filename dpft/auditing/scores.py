"""Canaries: records that mark a coordinate each, of which a coin decided whether they are in.

What an attacker can tell of them is compared with what the plan allows: as a law, and as lower
bounds on epsilon.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from dpft.accounting import PoissonGaussian, epsilon
from dpft.accounting.auditing import (
    Game,
    Played,
    final_epsilon,
    gaussian_epsilon,
    one_run_ceiling,
    one_run_epsilon,
    same_law,
)
from dpft.auditing.attendance import Marks, mark_collate, mark_loss, mark_rows
from dpft.auditing.observing import Setting, observed
from dpft.auditing.target import AuditTarget
from dpft.auditing.verdict import AuditCheck, judged, within
from dpft.errors import BrokenGuaranteeError

__all__ = [
    "Bounds",
    "Final",
    "Observed",
    "bounds_of",
    "bounds_of_final",
    "likelihood_ratios",
    "score_checks",
]

_CANARIES, _STEPS = 2000, 100
_STRENGTH = 50.0  # of an unclipped canary, in clip norms, and beyond the constant of auto_s
_MOST_PRESENT = 0.5
_SIMULATED = 20_000
_THRESHOLDS_FROM = _SIMULATED // 10
_SIMULATION_SEED = 20_261
_DELTA = 1e-8  # far below 1 / canaries
_THRESHOLDS = 16


@dataclasses.dataclass(frozen=True)
class Observed:
    """What was released of the canaries.

    Args:
        sums: Released sums in clip norms [steps, canaries].
        included: The coins [canaries].
        rate: Sample rate that is claimed.
        noise_multiplier: Noise that is claimed.

    Raises:
        BrokenGuaranteeError: If a sum is infinite or not a number.

    Privacy:
        Of canaries; other records leave their coordinates alone.
    """

    sums: np.ndarray
    included: np.ndarray
    rate: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        """Refuse what no noise covers."""
        _refuse_infinite(self.sums)

    @property
    def claimed(self) -> PoissonGaussian:
        """The mechanism that is claimed, all steps of it."""
        return PoissonGaussian(self.noise_multiplier, self.rate, self.steps)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.sums)


@dataclasses.dataclass(frozen=True)
class Final:
    """What a released delta shows of the canaries; no single step is known.

    Args:
        totals: How far each canary's coordinate moved, as a sum in clip norms [canaries].
        included: The coins [canaries].
        claimed: The mechanism that is claimed, all steps of it.

    Raises:
        BrokenGuaranteeError: If a total is infinite or not a number.

    Privacy:
        Of canaries; other records leave their coordinates alone.
    """

    totals: np.ndarray
    included: np.ndarray
    claimed: PoissonGaussian

    def __post_init__(self) -> None:
        """Refuse what no noise covers."""
        _refuse_infinite(self.totals)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Lower bounds on epsilon, with 95 % confidence each.

    Args:
        claimed: Epsilon of the plan at delta.
        delta: At which all of them are.
        one_run: Assumes nothing of the mechanism.
        ceiling: What `one_run` would be if every guess were right.
        independent: Assumes independent canaries and a Gaussian trade-off curve.
        attainable: What this attacker could show with any number of canaries, if the claim holds.

    Privacy:
        As what they were computed from.
    """

    claimed: float
    delta: float
    one_run: float
    ceiling: float
    independent: float
    attainable: float

    @property
    def refuted(self) -> bool:
        """Whether either bound is above the claim."""
        return max(self.one_run, self.independent) > self.claimed


def score_checks(target: AuditTarget) -> Iterator[AuditCheck]:
    """Play the game at the plan's noise and rate, with canaries alone.

    Args:
        target: The configuration.

    Yields:
        Whether sums of canaries that are in, and of those that are out, follow the law of the
        plan; and whether a lower bound is above epsilon.

    Privacy:
        Synthetic records (`tests/dpft/auditing/test_conformance.py`).
    """
    seen = _played(target)
    totals = seen.sums.sum(axis=0)
    for name, chosen, taking_part in (
        ("in", seen.included, True),
        ("out", ~seen.included, False),
    ):
        expected = _drawn(seen.claimed, _SIMULATED, taking_part=taking_part)
        finding = same_law(totals[chosen], expected)
        yield judged(f"canaries: law of those that are {name}", finding, "distance 0 from the plan")
    found = bounds_of(seen, _DELTA)
    bound = max(found.one_run, found.independent)
    name = f"canaries: no lower bound above epsilon at delta {_DELTA:g}"
    yield within(name, bound, found.claimed, f"at most {found.claimed:.4g}")


def bounds_of(seen: Observed, delta: float) -> Bounds:
    """Return what the likelihood ratios of canaries prove of epsilon.

    Args:
        seen: What was released.
        delta: Far below 1 / canaries.

    Privacy:
        Of canaries.
    """
    played = Played(likelihood_ratios(seen), seen.included)
    claimed = epsilon(seen.claimed, delta)
    return _bounds(played, delta, _thresholds(seen), (claimed, claimed))


def bounds_of_final(seen: Final, delta: float) -> Bounds:
    """Return what a released delta alone proves, for an attacker who sees no single step.

    Args:
        seen: What the delta shows.
        delta: Far below 1 / canaries.

    Privacy:
        Of canaries (`test_a_delta_alone_refutes_less_noise_than_claimed`).
    """
    half = _THRESHOLDS_FROM // 2
    parts = [_drawn(seen.claimed, half, taking_part=each) for each in (True, False)]
    played = Played(seen.totals, seen.included)
    known = epsilon(seen.claimed, delta), final_epsilon(seen.claimed, delta)
    return _bounds(played, delta, _quantiles(np.concatenate(parts)), known)


def _bounds(
    played: Played, delta: float, thresholds: Sequence[float], known: tuple[float, float]
) -> Bounds:
    claimed, attainable = known
    return Bounds(
        claimed=claimed,
        delta=delta,
        one_run=one_run_epsilon(played, delta),
        ceiling=one_run_ceiling(played.canaries, delta),
        independent=gaussian_epsilon(played, thresholds, delta),
        attainable=attainable,
    )


def likelihood_ratios(seen: Observed) -> np.ndarray:
    """Return the log-likelihood ratio of taking part [canaries], by the claimed mechanism.

    Args:
        seen: What was released.

    Privacy:
        Of canaries.
    """
    exponents = (seen.sums - 0.5) / seen.noise_multiplier**2
    likely: np.ndarray = np.logaddexp(
        math.log1p(-seen.rate) if seen.rate < 1 else -math.inf, math.log(seen.rate) + exponents
    ).sum(axis=0)
    return likely


def _played(target: AuditTarget) -> Observed:
    """Run the engine with canaries alone."""
    game = Game(_CANARIES)
    included = game.coins()
    rate = min(_MOST_PRESENT, target.plan.length.sample_rate)
    expected = max(1, round(rate * _CANARIES))
    marked = dataclasses.replace(
        target,
        model=Marks(_CANARIES),
        loss=mark_loss(_STRENGTH * max(1.0, target.clip_norm)),
        rows=mark_rows(3),
        collate=mark_collate,
    )
    steps = min(_STEPS, target.plan.length.steps)
    privacy = marked.privacy(num_records=_CANARIES, expected=expected, steps=steps)
    rows = [row for row, is_in in zip(mark_rows(_CANARIES), included, strict=True) if is_in]
    released = observed(marked, rows, Setting(privacy=privacy))
    sums = np.stack([step.vector() for step in released]) / target.clip_norm
    return Observed(sums, included, expected / _CANARIES, target.plan.noise_multiplier)


def _drawn(claimed: PoissonGaussian, number: int, *, taking_part: bool) -> np.ndarray:
    """Draw sums over all steps by the claimed law, apart from the engine."""
    random = np.random.default_rng(_SIMULATION_SEED)
    noise = claimed.noise_multiplier * math.sqrt(claimed.steps) * random.standard_normal(number)
    return noise + taking_part * random.binomial(claimed.steps, claimed.sample_rate, number)


def _thresholds(seen: Observed) -> Sequence[float]:
    """Return thresholds that follow from the claim alone: quantiles of simulated scores."""
    random = np.random.default_rng(_SIMULATION_SEED)
    shape = (seen.steps, _THRESHOLDS_FROM)
    sums = seen.noise_multiplier * random.standard_normal(shape)
    sums[:, ::2] += random.random((seen.steps, shape[1] // 2)) < seen.rate
    simulated = dataclasses.replace(seen, sums=sums, included=np.zeros(shape[1], dtype=bool))
    return _quantiles(likelihood_ratios(simulated))


def _quantiles(scores: np.ndarray) -> Sequence[float]:
    shares = np.linspace(0.02, 0.995, _THRESHOLDS)
    return [float(each) for each in np.quantile(scores, shares)]


def _refuse_infinite(released: np.ndarray) -> None:
    if not np.isfinite(released).all():
        raise BrokenGuaranteeError(
            "Expected released sums to be finite. Infinity plus noise is infinity: what made "
            "it shows. Do not train with this configuration before it is known why."
        )
