"""The figures of one guarantee: epsilon over steps and over delta, and the best attacker."""

from functools import partial
from typing import Any

from dpft.rendering import rounded_up
from dpft.reporting.facts import Facts
from dpft.reporting.figures import LIMIT, LINE, TO_THE_LEFT, Drawing, draw, with_plain_powers
from dpft.reporting.guarantee import Guarantee

__all__ = ["draw_guarantee", "draw_run"]


def draw_run(facts: Facts) -> tuple[Drawing, ...]:
    """Draw what there is to draw of a run.

    Args:
        facts: What the report states.

    Returns:
        `by_step`, `by_delta` and `trade_off`; none without a guarantee.

    Privacy:
        Functions of released values.
    """
    words = "Epsilon over the steps of the run"
    course = [draw("by_step", words, partial(_plot_by_step, facts))] if facts.by_step else []
    return (*course, *draw_guarantee(facts.guarantee))


def draw_guarantee(guarantee: Guarantee) -> tuple[Drawing, ...]:
    """Draw what there is to draw of a certificate.

    Args:
        guarantee: Of a run or of a merge.

    Returns:
        `by_delta` and `trade_off`; none if nothing is promised.

    Privacy:
        Functions of released values.
    """
    if not guarantee.is_private:
        return ()
    attacks = "What the best attacker detects"
    return (
        draw("by_delta", "Epsilon and delta", partial(_plot_by_delta, guarantee)),
        draw("trade_off", attacks, partial(_plot_trade_off, guarantee)),
    )


def _plot_by_step(facts: Facts, axes: Any) -> None:
    steps, spent = zip(*facts.by_step, strict=True)
    axes.plot(steps, spent, color=LINE, marker="o", markersize=3, label="spent")
    if facts.target is not None:
        asked = f"asked for: {facts.target:g}"
        axes.axhline(facts.target, color=LIMIT, linestyle="--", label=asked)
        axes.legend(loc="lower right", frameon=False)
    axes.annotate(rounded_up(facts.epsilon), (steps[-1], spent[-1]), (-4, 5), **TO_THE_LEFT)
    axes.set(xlabel="steps", ylabel=f"epsilon at delta = {facts.delta:.3g}", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.15)


def _plot_by_delta(guarantee: Guarantee, axes: Any) -> None:
    deltas, spent = zip(*guarantee.by_delta, strict=True)
    axes.plot(spent, deltas, color=LINE, marker="o", markersize=3)
    axes.plot([guarantee.epsilon], [guarantee.delta], color=LIMIT, marker="o", linestyle="none")
    stated = f"epsilon = {rounded_up(guarantee.epsilon)}"
    axes.annotate(stated, (guarantee.epsilon, guarantee.delta), (6, 4), textcoords="offset points")
    axes.set(xlabel="epsilon", ylabel="delta", yscale="log")
    with_plain_powers(axes.yaxis)
    axes.margins(x=0.15)


def _plot_trade_off(guarantee: Guarantee, axes: Any) -> None:
    false_alarms, detected = zip(*guarantee.trade_off, strict=True)
    axes.fill_between(false_alarms, detected, 1.0, color="#eeeeee", label="excluded")
    axes.plot(false_alarms, detected, color=LINE, label="best attacker")
    axes.plot(false_alarms, false_alarms, color="#666666", linestyle=":", label="guessing")
    rate, bound = guarantee.attacks[1]
    axes.plot([rate], [bound.rate], color=LIMIT, marker="o", linestyle="none")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xscale="log")
    axes.set(yscale="log", xlim=(false_alarms[0], 1), ylim=(false_alarms[0], 1))
    with_plain_powers(axes.xaxis)
    with_plain_powers(axes.yaxis)
    axes.legend(loc="lower right", frameon=False)
