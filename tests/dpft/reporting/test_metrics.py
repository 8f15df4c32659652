import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from dpft.privacy import EvaluationStatus, Privacy
from dpft.reporting.facts import Facts
from dpft.reporting.metrics import figures_of
from dpft.reporting.reading import read_run

NOISY = Privacy(
    delta=1e-5,
    noise_multiplier=2.0,
    num_records=1000,
    expected_batch_size=100,
    steps=30,
    accountant="rdp",
    dataset_id="letters",
    evaluation=EvaluationStatus.NOISY,
    evaluation_epsilon=0.25,
    evaluation_records=800,
)


def test_the_interval_of_a_noisy_metric_covers_its_noise(
    tmp_path: Path, making: Callable[..., Path]
) -> None:
    (figure,) = figures_of(read_run(making(tmp_path / "run", NOISY)))
    assert figure.upper is not None
    width = round((figure.upper - figure.value) * 800)
    ratio = math.exp(-0.25)
    outside = [
        2 * sum((1 - ratio) / (1 + ratio) * ratio**k for k in range(most + 1, 400))
        for most in (width, width - 1)
    ]
    assert outside[0] <= 0.05 < outside[1]
    assert "epsilon = 0.25" in figure.status


def test_a_noisy_metric_never_leaves_its_range(tmp_path: Path, making: Callable[..., Path]) -> None:
    few = dataclasses.replace(NOISY, evaluation_records=10)
    (figure,) = figures_of(read_run(making(tmp_path / "run", few)))
    assert (figure.lower, figure.upper) == (0, 1)


def test_the_interval_of_a_public_metric_is_the_one_that_was_released(facts: Facts) -> None:
    (figure,) = facts.figures
    assert (figure.lower, figure.value, figure.upper) == pytest.approx((0.7, 0.75, 0.8))
    assert figure.status.startswith("public")
