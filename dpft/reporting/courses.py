"""The lines that the figures draw: epsilon over steps, over delta, and what attackers can do."""

import dataclasses
import math

from dpft.accounting import DEFAULT_GRID, Certificate, Grid, RunRecord, epsilon, steps_of
from dpft.accounting.composition import groups_of
from dpft.accounting.mechanisms import first_steps
from dpft.accounting.profile import CURVE_DELTAS
from dpft.accounting.publication import Claim
from dpft.errors import DpftError

__all__ = ["FALSE_ALARMS", "Points", "epsilon_by_delta", "epsilon_by_step", "trade_off"]

Points = tuple[tuple[float, float], ...]
FALSE_ALARMS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.4, 0.6, 0.8)
_MILESTONES = 12
_QUICK = Grid(value_discretization_interval=10 * DEFAULT_GRID.value_discretization_interval)


def epsilon_by_step(certificate: Certificate, run: RunRecord, claim: Claim) -> Points:
    """Return what all runs together had spent after some steps of the last one.

    Args:
        certificate: All runs.
        run: The last of them.
        claim: What they spent in the end.

    Returns:
        Pairs (step, epsilon), the first at step 0, the last with the epsilon of the claim; empty
        if epsilon is infinite or the run has no steps to stop at.

    Raises:
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched. Each value is an upper bound, on a coarser grid than that of the
        claim and never above the claim, since the first steps cost no more than all
        (`test_the_course_ends_at_the_epsilon_of_the_certificate`). Unlike
        `dpft.progress.EpsilonCourse` it counts what the run started from.
    """
    steps = 0 if run.mechanism is None else steps_of(run.mechanism)
    if not certificate.is_bounded or steps < 2:
        return ()
    stops = sorted({round(steps * part / _MILESTONES) for part in range(_MILESTONES)} - {steps})
    before = [
        (float(at), min(_spent_at(certificate, run, claim, at), claim.epsilon)) for at in stops
    ]
    return (*before, (float(steps), claim.epsilon))


def _spent_at(certificate: Certificate, run: RunRecord, claim: Claim, steps: int) -> float:
    assert run.mechanism is not None, "its steps were counted"
    others = [each for each in certificate.runs if each != run]
    part = first_steps(run.mechanism, steps) if steps else None
    runs = others if part is None else [*others, dataclasses.replace(run, mechanism=part)]
    if not runs:
        return 0.0
    return max(
        epsilon(group.mechanisms, claim.delta, accountant=claim.accountant, grid=_QUICK)
        for group in groups_of(runs)
    )


def epsilon_by_delta(certificate: Certificate, claim: Claim) -> Points:
    """Return epsilon at several deltas; all of the pairs hold together.

    Args:
        certificate: All runs.
        claim: Epsilon at the delta of the plan, which is one of the pairs.

    Returns:
        Pairs (delta, epsilon) with a finite epsilon, by falling delta; no delta is as large as one
        by the number of records, where whole records may be published.

    Privacy:
        Nothing, no data touched (`test_the_curve_passes_through_the_claim`).
    """
    found = {delta: _known(certificate, delta) for delta in CURVE_DELTAS}
    found[claim.delta] = claim.epsilon
    pairs = sorted(found.items(), reverse=True)
    return tuple((delta, spent) for delta, spent in pairs if math.isfinite(spent))


def _known(certificate: Certificate, delta: float) -> float:
    """Return epsilon, infinity where the accountant or the number of records gives none."""
    try:
        return certificate.epsilon(delta)
    except DpftError:
        return math.inf


def trade_off(certificate: Certificate, delta: float) -> Points:
    """Return the largest true positive rate of any attacker at several rates of false alarms.

    Args:
        certificate: All runs.
        delta: Of the plan.

    Returns:
        Pairs (false positive rate, true positive rate); empty if epsilon is infinite.

    Raises:
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched: the bounds of `Certificate.attack_bound`.
    """
    if not certificate.is_bounded:
        return ()
    return tuple((rate, certificate.attack_bound(rate, delta).rate) for rate in FALSE_ALARMS)
