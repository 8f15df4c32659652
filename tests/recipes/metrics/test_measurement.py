from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.metrics import glue_metric, metric
from dpft.recipes.metrics.intervals import Bootstrap, wilson_interval
from dpft.recipes.metrics.measurement import measure

_PUBLIC = EvaluationStatus.PUBLIC
_QUICK = Bootstrap(resamples=100)


class _Untouchable:
    """Fails whoever looks at it."""

    def __getattribute__(self, name: str) -> Any:
        pytest.fail("the records were looked at")


@pytest.mark.parametrize("status", [EvaluationStatus.NOISY, EvaluationStatus.NONE])
def test_a_figure_of_private_records_is_refused(status: EvaluationStatus) -> None:
    with pytest.raises(BrokenGuaranteeError, match=f"evaluation={status.value} = public"):
        measure(metric("bleu"), _Untouchable(), _Untouchable(), status)


def test_figures_stand_beside_their_signature_and_price() -> None:
    found = measure(metric("bleu"), ["a b c d"], ["a b c d"], _PUBLIC)
    assert found.values == pytest.approx({"bleu": 100.0})
    assert found.intervals == {}
    assert found.num_records == 1
    assert found.metrics.values == found.values
    assert found.metrics.status == {"bleu": {"status": "public", "signature": found.signature}}
    assert "nrefs:1" in found.signature


def test_accuracy_gets_the_interval_of_wilson() -> None:
    found = measure(glue_metric("sst2"), [1, 1, 0, 0], [1, 0, 0, 0], _PUBLIC, _QUICK)
    lower, upper = wilson_interval(3, 4)
    assert found.intervals == {"accuracy": (lower, upper)}
    assert found.metrics.status["accuracy"]["lower"] == lower
    assert found.metrics.status["accuracy"]["upper"] == upper


def test_other_figures_get_an_interval_of_resampled_records() -> None:
    predictions, references = [1.0, 2.0, 4.0, 3.0, 6.0] * 3, [1.0, 2.5, 3.0, 4.0, 5.0] * 3
    found = measure(glue_metric("stsb"), predictions, references, _PUBLIC, _QUICK)
    for name, (lower, upper) in found.intervals.items():
        assert lower < found.values[name] < upper


def test_bad_records_are_refused_here_too() -> None:
    with pytest.raises(ConfigurationError, match="references of row 0"):
        measure(metric("rouge"), ["a"], [[]], _PUBLIC)
