import pytest

from dpft.privacy import EvaluationStatus
from dpft.recipes.metrics import accuracy as module
from dpft.recipes.metrics.accuracy import Metrics, accuracy


def test_public_accuracy_is_exact_and_says_so() -> None:
    found = accuracy(3, 4, EvaluationStatus.PUBLIC)
    assert found == Metrics(values={"accuracy": 0.75}, status={"accuracy": {"status": "public"}})


def test_no_metric_at_all_without_a_status() -> None:
    assert accuracy(3, 4, EvaluationStatus.NONE) == Metrics()


def test_noisy_accuracy_is_the_noised_count_and_carries_its_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def noise(epsilon: float) -> int:
        asked.append(epsilon)
        return -7

    monkeypatch.setattr(module, "discrete_laplace", noise)
    found = accuracy(57, 100, EvaluationStatus.NOISY, 0.5)
    assert asked == [0.5]
    assert found.values == {"accuracy": 0.5}
    assert found.status == {"accuracy": {"status": "noisy", "epsilon": 0.5, "delta": 0.0}}


@pytest.mark.parametrize(("noise", "value"), [(-1000, 0.0), (1000, 1.0)])
def test_noisy_accuracy_stays_a_share(
    noise: int, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "discrete_laplace", lambda _: noise)
    assert accuracy(5, 10, EvaluationStatus.NOISY, 1.0).values["accuracy"] == value


def test_noisy_accuracy_is_not_the_exact_one() -> None:
    drawn = {accuracy(500, 1000, EvaluationStatus.NOISY, 0.1).values["accuracy"] for _ in range(30)}
    assert len(drawn) > 5  # fails by chance with probability below 1e-9
