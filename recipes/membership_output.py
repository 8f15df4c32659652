"""What attacks on membership found, as JSON values and as a figure beside the theory."""

import dataclasses
from functools import lru_cache, partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from dpft.accounting.auditing import Attacked, rates_above_limit, roc
from dpft.accounting.profile import attack_bound
from dpft.privacy import PrivacyPlan
from dpft.recipes.membership import MembershipAudit, MembershipSettings
from dpft.reporting.figures import LIMIT, LINE, Drawing, draw, with_plain_powers

__all__ = ["FALSE_POSITIVES", "above_the_guarantee", "draw_membership", "membership_as_json"]

FALSE_POSITIVES = (0.001, 0.01, 0.1)
_JUDGED = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_DRAWN = 13  # points of the theoretical curve
_STYLES = {"loss": ":", "likelihood": "-"}
_NAMES = {"loss": "loss", "likelihood": "likelihood ratio"}


def above_the_guarantee(found: MembershipAudit) -> tuple[str, ...]:
    """Return where an attack on a private model is right more often than its guarantee allows.

    Args:
        found: What the attacks found.

    Returns:
        A phrase each; none if nothing speaks against the guarantee.

    Privacy:
        Of public records (`test_models_without_noise_are_found_above_the_guarantee`).
    """
    limit = partial(_limit, found.plan)
    return tuple(
        f"{_NAMES[name]} at {rate:g} false alarms"
        for name, attacked in found.private.items()
        for rate in rates_above_limit(attacked, _JUDGED, limit)
    )


def membership_as_json(found: MembershipAudit, settings: MembershipSettings) -> dict[str, Any]:
    """Return what the attacks found as JSON values.

    Args:
        found: What the attacks found.
        settings: How the models were trained.

    Privacy:
        Of public records.
    """
    plan = found.plan
    return {
        "settings": dataclasses.asdict(settings),
        "epsilon": plan.epsilon(),
        "delta": plan.privacy.delta,
        "noise_multiplier": plan.noise_multiplier,
        "sample_rate": plan.length.sample_rate,
        "limit": {f"{rate:g}": _limit(plan, rate) for rate in FALSE_POSITIVES},
        "private": {name: _attack(each) for name, each in found.private.items()},
        "non_private": {name: _attack(each) for name, each in found.non_private.items()},
        "above_the_guarantee": list(above_the_guarantee(found)),
    }


def draw_membership(found: MembershipAudit) -> Drawing:
    """Draw the attacks beside what the guarantee allows, both rates on a logarithmic scale.

    Args:
        found: What the attacks found.

    Privacy:
        Of public records.
    """
    words = "True positive rates of membership attacks over their false positive rates"
    return draw("membership", words, partial(_plot, found))


def _attack(attacked: Attacked) -> dict[str, Any]:
    return {
        "area_under_curve": float(
            roc_auc_score(attacked.included.ravel(), attacked.scores.ravel())
        ),
        "points": [dataclasses.asdict(point) for point in roc(attacked, FALSE_POSITIVES)],
    }


@lru_cache(maxsize=128)
def _limit_at(mechanism: Any, delta: float, rate: float) -> float:
    return attack_bound((mechanism,), delta, rate, accountant="pld").rate


def _limit(plan: PrivacyPlan, rate: float) -> float:
    """Return the largest true positive rate at a false positive rate, by the trade-off curve."""
    if not 0 < rate < 1:
        return 1.0 if rate > 0 else plan.privacy.delta
    return _limit_at(plan.mechanism(), plan.privacy.delta, rate)


def _plot(found: MembershipAudit, axes: Any) -> None:
    pairs = next(iter(found.private.values())).scores.size
    least = 2 / pairs
    for private, side in ((False, found.non_private), (True, found.private)):
        color = "#3b7d3b" if private else LIMIT
        for name, attacked in side.items():
            said = f"{_NAMES[name]}, {'private' if private else 'not private'}"
            alarms, hits, _ = roc_curve(attacked.included.ravel(), attacked.scores.ravel())
            kept = alarms > 0
            axes.plot(alarms[kept], hits[kept], color=color, linestyle=_STYLES[name], label=said)
            if name == "likelihood":
                _intervals(axes, attacked, color)
    rates = np.geomspace(least, 0.999, _DRAWN)
    limits = [_limit(found.plan, float(rate)) for rate in rates]
    said = f"best attacker, epsilon = {found.plan.epsilon():.3g}"
    axes.fill_between(rates, limits, 1.0, color="#eeeeee")
    axes.plot(rates, limits, color=LINE, linestyle="--", label=said)
    axes.plot(rates, rates, color="#666666", linewidth=0.6, label="guessing")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xscale="log", yscale="log")
    axes.set(xlim=(least, 1), ylim=(least, 1))
    with_plain_powers(axes.xaxis)
    with_plain_powers(axes.yaxis)
    axes.legend(loc="lower right", frameon=False, fontsize=7)


def _intervals(axes: Any, attacked: Attacked, color: str) -> None:
    for point in roc(attacked, FALSE_POSITIVES):
        low, high = point.true_positive_interval
        axes.plot([point.false_positive] * 2, [low, high], color=color, linewidth=2, alpha=0.6)
