"""Membership inference: scores of attacks, and how often they are right.

An attacker sees how surely each model names the right class of each record. A coin decided which
records each model was trained on.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dpft.accounting.rules import require

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Attacked", "RatePoint", "likelihood_scores", "loss_scores", "rates_above_limit", "roc"]

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Attacked:
    """Scores of one attack on every pair of a model and a record.

    Args:
        scores: High means in [M, N].
        included: The coins [M, N].

    Raises:
        ConfigurationError: If the two differ in shape, or a score is not a number.

    Privacy:
        The caller's.
    """

    scores: "np.ndarray"
    included: "np.ndarray"

    def __post_init__(self) -> None:
        """Check the shapes."""
        import numpy as np

        fits = self.scores.ndim == 2 and self.scores.shape == self.included.shape
        problem = (
            f"Expected scores of shape {self.scores.shape} to be numbers, one for each coin of "
            f"{self.included.shape}. An attack without an order proves nothing. Pass both as "
            "[models, records]."
        )
        require([] if fits and not np.isnan(self.scores).any() else [problem])


@dataclasses.dataclass(frozen=True)
class RatePoint:
    """One point of a curve of rates, with Clopper and Pearson's intervals of 95 %.

    Args:
        false_positive: Share of absent records that are called present.
        true_positive: Share of present records that are called present.
        false_positive_interval: Its interval.
        true_positive_interval: Its interval.

    Privacy:
        As the scores. The intervals take every pair of a model and a record as a game of its own;
        pairs of one model are not quite, so they are somewhat too narrow.
    """

    false_positive: float
    true_positive: float
    false_positive_interval: tuple[float, float]
    true_positive_interval: tuple[float, float]


def loss_scores(confidences: "np.ndarray") -> "np.ndarray":
    """Return the scores of the attack by loss: the surer the model, the likelier a member.

    Args:
        confidences: log p / (1 - p) of the right class, by model and record [M, N].

    Privacy:
        As its input (`test_a_sure_model_remembers`).

    References:
        Yeom et al. 2018 (1709.01604), adversary 2.
    """
    return confidences


def likelihood_scores(confidences: "np.ndarray", included: "np.ndarray") -> "np.ndarray":
    """Return the scores of the attack by likelihood ratio, each model beside all others.

    Confidences of a record in models that saw it, and in those that did not, are taken as two
    normals of one deviation, the same for all records, as for few shadow models. It would scale
    all scores alike and is left out.

    Args:
        confidences: As for `loss_scores`.
        included: The coins [M, N].

    Returns:
        Logarithms of the ratio, but for that scale [M, N]; a record without a model on either side
        has 0.

    Privacy:
        As its input. The attacked model's coin is not used for its own score
        (`test_a_ratio_does_not_look_at_the_coin_it_guesses`).

    References:
        Carlini et al. 2022 (2112.03570), algorithm 1 and section 6.3 (a global variance).
    """
    import numpy as np

    means, counts = {}, {}
    for side, chosen in (("in", included), ("out", ~included)):
        sums, number = (confidences * chosen).sum(0), chosen.sum(0)
        counts[side] = number - chosen  # of all models but the one that is attacked
        means[side] = (sums - confidences * chosen) / np.maximum(counts[side], 1)
    far = {side: np.square(confidences - means[side]) for side in means}
    ratio: np.ndarray = (far["out"] - far["in"]) / 2
    return np.where((counts["in"] > 0) & (counts["out"] > 0), ratio, 0.0)


def roc(attacked: Attacked, false_positives: Sequence[float]) -> tuple[RatePoint, ...]:
    """Return how many members are found at given rates of false alarms.

    Args:
        attacked: Scores and coins.
        false_positives: Rates, each in (0, 1); the largest that is not above it is taken.

    Returns:
        One point each.

    Privacy:
        As the scores.
    """
    import numpy as np

    inside, outside = (attacked.scores[each] for each in (attacked.included, ~attacked.included))
    ordered = np.sort(outside)[::-1]
    found = []
    for rate in false_positives:
        threshold = ordered[min(len(ordered) - 1, math.floor(rate * len(ordered)))]
        found.append(_point(int((inside > threshold).sum()), len(inside), outside, threshold))
    return tuple(found)


def rates_above_limit(
    attacked: Attacked, false_positives: Sequence[float], limit: Callable[[float], float]
) -> tuple[float, ...]:
    """Return at which rates of false alarms an attack is right more often than a guarantee allows.

    Thresholds are chosen on one half of the models and judged on the other. Both rates have to be
    beyond their intervals, whose error probability is shared among all points.

    Args:
        attacked: Scores and coins of at least two models.
        false_positives: Rates, each in (0, 1).
        limit: Largest true positive rate at a false positive rate.

    Returns:
        The rates; none if nothing speaks against the guarantee.

    Privacy:
        As the scores (`test_a_perfect_attack_is_above_the_limit`).
    """
    import numpy as np

    half = len(attacked.scores) // 2
    chosen = np.sort(attacked.scores[:half][~attacked.included[:half]])[::-1]
    scores, included = attacked.scores[half:], attacked.included[half:]
    error = (1 - _CONFIDENCE) / (2 * max(1, len(false_positives)))
    found = []
    for rate in false_positives:
        threshold = chosen[min(len(chosen) - 1, math.floor(rate * len(chosen)))]
        above = scores > threshold
        hits, alarms = int(above[included].sum()), int(above[~included].sum())
        least, _ = _interval(hits, int(included.sum()), error)
        _, most = _interval(alarms, int((~included).sum()), error)
        if most < 1 and least > limit(most):
            found.append(rate)
    return tuple(found)


def _point(hits: int, members: int, outside: "np.ndarray", threshold: float) -> RatePoint:
    alarms, error = int((outside > threshold).sum()), (1 - _CONFIDENCE) / 2
    return RatePoint(
        false_positive=alarms / len(outside),
        true_positive=hits / members,
        false_positive_interval=_interval(alarms, len(outside), error),
        true_positive_interval=_interval(hits, members, error),
    )


def _interval(successes: int, tries: int, error: float) -> tuple[float, float]:
    """Return Clopper and Pearson's bounds of a probability, each wrong with probability `error`."""
    from scipy.stats import beta

    failures = tries - successes
    least = float(beta.ppf(error, successes, failures + 1)) if successes else 0.0
    most = float(beta.ppf(1 - error, successes + 1, failures)) if failures else 1.0
    return least, most
