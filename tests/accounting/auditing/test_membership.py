import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dpft.accounting import PoissonGaussian, attack_tpr
from dpft.accounting.auditing import (
    Attacked,
    likelihood_scores,
    loss_scores,
    rates_above_limit,
    roc,
)
from dpft.errors import ConfigurationError

RATES = (0.001, 0.01, 0.1)


def played(gain: float, models: int = 40, records: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Records of very different ease; being in raises the confidence by a gain."""
    random = np.random.default_rng(5)
    included = random.random((models, records)) < 0.5
    ease = 5 * random.standard_normal(records)
    return ease + gain * included + random.standard_normal((models, records)), included


def area(scores: np.ndarray, included: np.ndarray) -> float:
    return float(roc_auc_score(included.ravel(), scores.ravel()))


def test_a_sure_model_remembers() -> None:
    confidences, included = played(gain=20.0)

    assert area(loss_scores(confidences), included) > 0.98


def test_a_ratio_sees_what_the_loss_alone_does_not() -> None:
    confidences, included = played(gain=2.0)

    assert area(loss_scores(confidences), included) < 0.65
    assert area(likelihood_scores(confidences, included), included) > 0.9


def test_without_memory_no_attack_is_better_than_guessing() -> None:
    confidences, included = played(gain=0.0)

    assert area(likelihood_scores(confidences, included), included) == pytest.approx(0.5, abs=0.03)


def test_a_ratio_does_not_look_at_the_coin_it_guesses() -> None:
    confidences, included = played(gain=2.0)
    other = included.copy()
    other[3, 7] = ~other[3, 7]

    before, after = (likelihood_scores(confidences, each) for each in (included, other))

    assert before[3, 7] == pytest.approx(after[3, 7])
    assert before[4, 7] != after[4, 7], "but another model's does"


def test_a_record_without_a_shadow_on_one_side_has_no_ratio() -> None:
    included = np.array([[True, True], [True, False], [True, True]])

    scores = likelihood_scores(np.arange(6.0).reshape(3, 2), included)

    assert not scores[:, 0].any()
    assert scores[0, 1] != 0


def test_rates_lie_in_their_intervals() -> None:
    confidences, included = played(gain=2.0)

    for point, rate in zip(roc(Attacked(confidences, included), RATES), RATES, strict=True):
        low, high = point.true_positive_interval
        assert low < point.true_positive < high
        low, high = point.false_positive_interval
        assert low <= point.false_positive < high
        assert point.false_positive <= rate


def limit(rate: float) -> float:
    return attack_tpr(PoissonGaussian(4.0, 0.1, 10), rate)


def test_a_perfect_attack_is_above_the_limit() -> None:
    confidences, included = played(gain=50.0)

    assert rates_above_limit(Attacked(confidences, included), RATES, limit) == RATES


def test_guessing_is_not_above_the_limit() -> None:
    confidences, included = played(gain=0.0)

    assert not rates_above_limit(Attacked(confidences, included), RATES, limit)


def test_an_attack_that_the_guarantee_allows_is_not_above_the_limit() -> None:
    confidences, included = played(gain=0.4)

    scores = likelihood_scores(confidences, included)

    assert area(scores, included) > 0.55
    assert not rates_above_limit(Attacked(scores, included), RATES, lambda rate: min(1, 3 * rate))


@pytest.mark.parametrize("scores", [np.zeros(4), np.full((2, 2), np.nan), np.zeros((2, 3))])
def test_scores_that_fit_no_coins_are_refused(scores: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="one for each coin"):
        Attacked(scores, np.ones((2, 2), dtype=bool))
